import { describe, expect, test, vi } from "vitest";
import { runProgram, type CommandSpec } from "../../src/config/command.ts";
import { boolean, integer, number, path, paths } from "../../src/config/fields.ts";
import type { Flags } from "../../src/config/resolve.ts";
import { rejection } from "../failure.ts";

const fields = {
  model: path({ hint: "<dir>", aliases: ["model_name_or_path"], help: "the model" }),
  data: paths({ hint: "<files...>", aliases: ["data_path"], optional: true, help: "the data" }),
  learningRate: number({ default: 1e-5, help: "peak learning rate" }),
  whiten: boolean({ default: true, help: "whiten" }),
  force: boolean({ default: false, flagOnly: true, help: "start over" }),
};

/** The flags that a command line gives to its command, and the exit code. */
async function parse(...argv: string[]): Promise<{ flags: Flags | undefined; exitCode: number }> {
  let flags: Flags | undefined;
  const command: CommandSpec = {
    name: "ppo", summary: "train", examples: ["tschat ppo --model m"], fields, positional: "model",
    steps: { sft: { epochs: integer({ default: 1, aliases: ["num_train_epochs"], help: "passes" }), ...fields } },
    run: async (given) => {
      flags = given;
      return 7;
    },
  };
  const spec = {
    name: "tschat", version: "1.2.3", description: "d", commands: [command], epilogue: "Exit codes: 0", example: "tschat ppo m",
  };
  return { exitCode: await runProgram(spec, argv), flags };
}

describe("a group of commands", () => {
  const inGroup = async (...argv: string[]): Promise<{ ran: string[]; exitCode: number }> => {
    const ran: string[] = [];
    const command = (name: string): CommandSpec => ({
      name, summary: `does ${name}`, examples: [`tschat ${name}`], fields,
      run: async ({ learningRate }) => ran.push(`${name} ${learningRate}`),
    });
    const spec = {
      name: "tschat", version: "1.2.3", description: "d", commands: [command("ppo"), command("data show"), command("data check")],
      groups: { data: "looks at data" }, epilogue: "", example: "tschat ppo",
    };
    return { exitCode: await runProgram(spec, argv), ran };
  };

  test("runs the command that both words name, with its flags", async () => {
    expect(await inGroup("data", "check", "--learning_rate", "2")).toEqual({ ran: ["data check 2"], exitCode: 1 });
  });

  test("explains itself when its name stands alone", async () => {
    const written = vi.spyOn(process.stdout, "write").mockReturnValue(true);
    try {
      expect(await inGroup("data")).toEqual({ ran: [], exitCode: 0 });
      const text = written.mock.calls.join("");
      expect(text).toMatch(/Usage: tschat data <command>[\s\S]*looks at data[\s\S]*show \[options\] +does data show/);
    } finally {
      written.mockRestore();
    }
  });

  test("says which of its commands a wrong word is near", async () => {
    expect(await rejection(() => inGroup("data", "chek"))).toMatchObject({
      code: "E_CONFIG", message: "unknown command chek; did you mean check?",
    });
  });
});

describe("flags", () => {
  test("arrive under their camelCase name, as text", async () => {
    expect(await parse("ppo", "--model", "m", "--learning-rate", "1e-5", "--data", "a", "b", "--data=c")).toEqual({
      exitCode: 7, flags: { model: "m", learningRate: "1e-5", data: ["a", "b", "c"] },
    });
  });

  test("may be spelled in snake_case, in camelCase, or by an alias in either case", async () => {
    for (const name of ["--learning-rate", "--learning_rate", "--learningRate"]) {
      expect((await parse("ppo", name, "2")).flags).toEqual({ learningRate: "2" });
    }
    for (const name of ["--model_name_or_path", "--model-name-or-path"]) {
      expect((await parse("ppo", `${name}=a=b`)).flags).toEqual({ model: "a=b" });
    }
  });

  test("of a switch are true, false, or not there", async () => {
    expect((await parse("ppo")).flags).toEqual({});
    expect((await parse("ppo", "--whiten", "--no-force")).flags).toEqual({ whiten: true, force: false });
    expect((await parse("ppo", "--no_whiten")).flags).toEqual({ whiten: false });
  });

  test("of a step carry its name", async () => {
    const { flags } = await parse("ppo", "--sft.learning_rate", "3", "--sft.num_train_epochs", "2", "--no-sft.whiten");
    expect(flags).toEqual({ "sft.learningRate": "3", "sft.epochs": "2", "sft.whiten": false });
    expect((await parse("ppo", "--sft.no-whiten")).flags).toEqual({ "sft.whiten": false });
  });

  test("that look like a flag are left alone when they are a value after --, and negative numbers are values", async () => {
    expect((await parse("ppo", "--learning-rate", "-1")).flags).toEqual({ learningRate: "-1" });
    expect((await parse("ppo", "--", "--data_path")).flags).toEqual({ model: "--data_path" });
  });

  test("may have one argument without a name", async () => {
    expect((await parse("ppo", "folder", "--force")).flags).toEqual({ model: "folder", force: true });
  });

  test.each([
    [["ppo", "--learning-rat", "1"], "unknown flag --learning-rat; did you mean --learning-rate?"],
    [["ppo", "--datapath", "1"], "unknown flag --datapath; did you mean --data?"],
    [["ppo", "--no-whitn"], "unknown flag --no-whitn; did you mean --no-whiten?"],
    [["ppo", "--epochs", "1"], "unknown flag --epochs; settings of one step carry its name: --sft.epochs"],
    [["ppo", "--sft.force"], "unknown flag --sft.force; see tschat ppo --help"],
    [["ppo", "--zzz=1"], "unknown flag --zzz=1; see tschat ppo --help"],
    [["ppo", "--force=true"], "--force=true: --force is a switch and takes no value; --no-... turns it off"],
    [["ppo", "--model"], "--model <dir>: expected a value, got none"],
    [["ppo", "a", "b"], "too many arguments for 'ppo'. Expected 1 argument but got 2: a, b; see tschat ppo --help"],
    [["ppo", "a", "--model", "b"], "--model: given twice: b and a"],
    [["pppo"], "unknown command pppo; did you mean ppo?"],
    [["serve"], "unknown command serve; see tschat --help"],
    [["--seed", "1"], "unknown flag --seed; flags follow the command; see tschat --help"],
  ])("%j is refused", async (argv, message) => {
    expect(await rejection(() => parse(...argv))).toEqual({ name: "ConfigError", code: "E_CONFIG", message });
  });
});

test("an error of the command itself passes through", async () => {
  const command: CommandSpec = { name: "x", summary: "", examples: [], fields: {}, run: () => Promise.reject(new RangeError("mine")) };
  const spec = { name: "tschat", version: "", description: "", commands: [command], epilogue: "", example: "" };
  expect(await rejection(() => runProgram(spec, ["x"]))).toMatchObject({ name: "RangeError", message: "mine" });
});

test("two settings of one name are a mistake of the command", async () => {
  const command: CommandSpec = {
    name: "x", summary: "", examples: [], run: async () => 0,
    fields: { a: integer({ help: "" }), b: integer({ aliases: ["a"], help: "" }) },
  };
  const spec = { name: "tschat", version: "", description: "", commands: [command], epilogue: "", example: "" };
  expect((await rejection(() => runProgram(spec, ["x"]))).message).toBe("internal: two settings of x are called --a");
});

test("help goes to standard output with exit code 0, lists defaults, hides the flags of steps and ends with examples", async () => {
  const written: string[] = [];
  const write = vi.spyOn(process.stdout, "write").mockImplementation((chunk) => written.push(String(chunk)) > 0);
  try {
    expect(await parse("ppo", "--help")).toEqual({ exitCode: 0, flags: undefined });
    expect(await parse("--version")).toEqual({ exitCode: 0, flags: undefined });
  } finally {
    write.mockRestore();
  }
  const help = written.join("").replace(/\s+/g, " ");
  expect(help).toContain("--model <dir> the model (required)");
  expect(help).toContain("--learning-rate <number> peak learning rate (default: 1e-5)");
  expect(help).toContain("--no-whiten do not whiten");
  expect(help).not.toContain("sft.");
  expect(help).toContain("Examples: tschat ppo --model m Exit codes: 0");
  expect(help).toMatch(/ 1\.2\.3 $/);
});
