import { describe, expect, test } from "vitest";
import { temporaryFolder } from "../temporary-folder.ts";
import { start, tinyModel, tschat } from "./cli.ts";

const settings = ["--temperature", "0", "--max-new-tokens", "6", "--dtype", "float32"];

/** What a session prints for these lines of input, between its greeting and its end. */
async function session(lines: readonly string[], ...flags: string[]): Promise<{ code: number | null; err: string; answers: string[] }> {
  const { code, out, err } = await tschat(["chat", tinyModel(temporaryFolder()), ...settings, ...flags], {
    input: lines.map((line) => `${line}\n`).join(""),
  });
  const text = out.replace(/\n?you> /g, "\n");
  return {
    code,
    err,
    answers: text
      .split("\n")
      .slice(1)
      .filter((line) => line !== ""),
  };
}

describe("tschat chat over a pipe", () => {
  test("answers, forgets and quits", async () => {
    const { code, err, answers } = await session(["what is it", "/clear", "what is it", "what is it", "/quit", "never read"]);
    expect([code, err]).toEqual([0, ""]);
    const [first, forgotten, second, third, ...more] = answers;
    expect(more).toEqual([]);
    expect(first?.length).toBeGreaterThan(0);
    expect(forgotten).toBe("(forgotten)");
    expect(second).toBe(first); // greedy, and without the earlier turn
    expect(third).not.toBe(first); // the history is another prompt
  });

  test("ends with its input, also without a last line break, and answers everything before", async () => {
    const { code, out, err } = await tschat(["chat", tinyModel(temporaryFolder()), ...settings], { input: "one\ntwo" });
    expect([code, err]).toEqual([0, ""]);
    expect(out.split("\n").filter((line) => line !== "" && line !== "you> ")).toHaveLength(3); // greeting and two answers
  });

  test("names the commands there are for one that there is not", async () => {
    const { code, answers } = await session(["/help", "/quit"]);
    expect([code, answers]).toEqual([0, ["unknown command /help; there are /clear and /quit"]]);
  });

  test("streams: an answer begins before the session's input ends", async () => {
    const running = start(["chat", tinyModel(temporaryFolder()), ...settings]);
    running.process.stdin?.write("hello\n");
    await running.printed(/you> [^\n]+\n\nyou> $/); // an answer, and the prompt for the next message
    running.process.stdin?.write("/quit\n");
    expect(await running.end).toMatchObject({ code: 0, err: "" });
  });

  test("drops the oldest turns when the history outgrows the context, and says so", async () => {
    // A message with its frame takes some 20 of 128 tokens; the answer may take 6.
    const { code, err, answers } = await session(Array.from({ length: 6 }, (_, i) => `message number ${i}`));
    expect([code, err]).toEqual([0, ""]);
    expect(
      answers.filter((line) => /^\(the oldest \d+ messages no longer fit into the context of 128 tokens\)$/.test(line)).length,
    ).toBeGreaterThan(0);
    expect(answers.filter((line) => !line.startsWith("("))).toHaveLength(6);
  });

  test("refuses a message that is too long alone, and goes on", async () => {
    const { code, err, answers } = await session(["short", "word ".repeat(100), "/clear", "short"]);
    expect([code, err]).toEqual([0, ""]);
    const [first, refusal, , again] = answers;
    expect(refusal).toMatch(
      /^\(the message has \d{3} tokens with its frame, there is room for 122 of the context's 128: send a shorter one\)$/,
    );
    expect(again).toBe(first);
  });

  test("puts a system message before the conversation", async () => {
    const [plain, told] = [await session(["hello"]), await session(["hello"], "--system", "Speak like a pirate.")];
    expect(told.answers[0]).not.toBe(plain.answers[0]);
  });

  test("samples the same answers for the same seed, others for another", async () => {
    const answer = async (seed: string) =>
      (await session(["hello"], "--temperature", "1.5", "--seed", seed, "--max-new-tokens", "20")).answers.join();
    const [first, again, other] = [await answer("1"), await answer("1"), await answer("2")];
    expect(again).toBe(first);
    expect(other).not.toBe(first);
  });
});
