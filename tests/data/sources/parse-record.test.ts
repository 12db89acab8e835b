import { describe, expect, test } from "vitest";
import { parseRecord } from "../../../src/data/sources/parse-record.ts";
import { expectConfigError } from "../expect-config-error.ts";

const origin = { path: "data.jsonl", line: 3 };
const user = (content: string) => ({ role: "user", content }) as const;
const assistant = (content: string) => ({ role: "assistant", content }) as const;
const system = (content: string) => ({ role: "system", content }) as const;
const question = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: 2 + 2?\n\nAssistant:";
const dialogue = [user("Hi"), assistant("Hello"), user("2 + 2?")];

describe("parseRecord", () => {
  test.each([
    ["strings", { prompt: "2 + 2?", chosen: "4", rejected: "5" }, [user("2 + 2?")]],
    ["messages and strings", { prompt: dialogue, chosen: "4", rejected: "5" }, dialogue],
    ["messages and single answers", { prompt: dialogue, chosen: [assistant("4")], rejected: [assistant("5")] }, dialogue],
    ["messages and whole conversations",
      { prompt: dialogue, chosen: [...dialogue, assistant("4")], rejected: [...dialogue, assistant("5")] }, dialogue],
    ["a string and whole conversations",
      { prompt: "2?", chosen: [user("2?"), assistant("4")], rejected: [user("2?"), assistant("5")] }, [user("2?")]],
    ["a transcript and its continuations", { prompt: question, chosen: " 4", rejected: " 5\n" }, dialogue],
    ["a transcript and whole transcripts", { prompt: question, chosen: `${question} 4`, rejected: `${question} 5` }, dialogue],
    ["a transcript without its first blank lines", { prompt: question.trim(), chosen: "4", rejected: "5" }, dialogue],
    ["whole transcripts", { chosen: `${question} 4`, rejected: `${question} 5` }, dialogue],
    ["whole conversations", { chosen: [system("Be"), user("2?"), assistant("4")], rejected: [system("Be"), user("2?"), assistant("5")] },
      [system("Be"), user("2?")]],
    ["fields of other shapes beside it",
      { prompt: "2?", chosen: "4", rejected: "5", completion: "6", messages: [], score: 1 }, [user("2?")]],
  ])("reads preferences as %s", (_, value, prompt) => {
    expect(parseRecord(value, origin)).toEqual({ kind: "preference", origin, prompt, chosen: "4", rejected: "5" });
  });

  test.each([
    ["prompt and completion", { prompt: "2?", completion: "4" }, [user("2?")], "last"],
    ["messages and messages", { prompt: dialogue, completion: [assistant("4")] }, dialogue, "last"],
    ["a transcript and its continuation", { prompt: question, completion: " 4" }, dialogue, "last"],
    ["a prompt with a chosen answer alone", { prompt: "2?", chosen: "4" }, [user("2?")], "last"],
    ["null for what is absent", { prompt: "2?", chosen: null, rejected: null, messages: null, completion: "4" }, [user("2?")], "last"],
    ["one transcript", { chosen: `${question} 4` }, dialogue, "last"],
    ["messages", { messages: [...dialogue, assistant("4")] }, dialogue, "all"],
    ["messages beside a prompt", { prompt: "2?", messages: [...dialogue, assistant("4")] }, dialogue, "all"],
    ["ShareGPT", {
      conversations: [
        { from: "system", value: "" }, { from: "human", value: "Hi" }, { from: "gpt", value: "Hello" },
        { from: "user", value: "2?" }, { from: "assistant", value: "4" },
      ],
    }, [system(""), user("Hi"), assistant("Hello"), user("2?")], "all"],
    ["ShareGPT with role and content", { conversations: [...dialogue, assistant("4")] }, dialogue, "all"],
    ["Alpaca", { instruction: "Add", input: "", output: "4" }, [user("Add")], "last"],
    ["Alpaca with an input and a system message",
      { instruction: "Add", input: "2 and 2", output: "4", system: "Be" }, [system("Be"), user("Add\n\n2 and 2")], "last"],
    ["Alpaca with its text beside it", { instruction: "Add", output: "4", text: "Below is" }, [user("Add")], "last"],
    ["TRL's wanted answers", { prompt: "2?", completion: "4", label: true }, [user("2?")], "last"],
    ["a transcript as text", { text: `${question} 4` }, dialogue, "all"],
    ["text alone", { text: "4" }, "", "all"],
    ["a system field before a prompt", { system: "Be", prompt: "2?", completion: "4" }, [system("Be"), user("2?")], "last"],
    ["a system field before messages", { system: "Be", messages: [...dialogue, assistant("4")] }, [system("Be"), ...dialogue], "all"],
    ["a system field beside a system message",
      { system: "No", messages: [system("Be"), user("2?"), assistant("4")] }, [system("Be"), user("2?")], "all"],
    ["a blank system field", { system: " ", prompt: "2?", completion: "4" }, [user("2?")], "last"],
    ["OpenAI's content parts and developer", {
      messages: [
        { role: "developer", content: "Be" }, { role: "user", content: [{ type: "text", text: "2" }, { type: "text", text: "?" }] },
        { role: "assistant", content: [{ type: "text", text: "4" }] },
      ],
    }, [system("Be"), user("2?")], "all"],
  ])("reads demonstrations as %s", (_, value, prompt, trainedTurns) => {
    expect(parseRecord(value, origin)).toEqual({ kind: "demonstration", origin, prompt, answer: "4", trainedTurns });
  });

  test.each([
    ["a string", { prompt: "2?" }, [user("2?")]],
    ["a string that only looks like a turn", { prompt: "Human: is that a word?" }, [user("Human: is that a word?")]],
    ["messages", { prompt: [system("Be brief"), user("2?")] }, [system("Be brief"), user("2?")]],
    ["an open transcript", { prompt: question }, dialogue],
    ["a transcript that ends with the human", { prompt: "\n\nHuman: Hi" }, [user("Hi")]],
    ["messages that end with the user", { messages: dialogue }, dialogue],
  ])("reads prompts as %s", (_, value, prompt) => {
    expect(parseRecord(value, origin)).toEqual({ kind: "prompt", origin, prompt });
  });

  test("skips an answer that TRL's unpaired preferences label as not wanted", () => {
    expect(parseRecord({ prompt: "2?", completion: "5", label: false }, origin))
      .toEqual({ kind: "skipped", reason: "the answer is labelled as not wanted (label: false)" });
  });

  test("puts a system field before the prompt of a pair, whose answers may be whole conversations with or without it", () => {
    const expected = { kind: "preference", origin, prompt: [system("Be"), user("2?")], chosen: "4", rejected: "5" };
    const [chosen, rejected] = [[user("2?"), assistant("4")], [system("Be"), user("2?"), assistant("5")]];
    expect(parseRecord({ system: "Be", prompt: "2?", chosen, rejected }, origin)).toEqual(expected);
    expect(parseRecord({ system: "Be", chosen, rejected }, origin)).toEqual(expected);
  });

  test("keeps the blanks of plain answers and inside transcript turns", () => {
    expect(parseRecord({ prompt: "Q", completion: " a\n" }, origin)).toMatchObject({ answer: " a\n" });
    expect(parseRecord({ prompt: "\n\nHuman: Q", completion: " a\n\nb " }, origin)).toMatchObject({ answer: "a\n\nb" });
  });

  test.each([
    ["answers differ before the last",
      "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d", "\n\nHuman: a\n\nAssistant: x\n\nHuman: c\n\nAssistant: d",
      "the two conversations differ in more than the last answer"],
    ["one has a turn more", "\n\nHuman: a\n\nAssistant: b", "\n\nHuman: a\n\nAssistant: b\n\nAssistant: c",
      "the two conversations differ in more than the last answer"],
    ["an answer is empty", "\n\nHuman: a\n\nAssistant: ", "\n\nHuman: a\n\nAssistant: b", "an answer is empty"],
    ["the human has the last word", "\n\nHuman: a", "\n\nHuman: b\n\nAssistant: x", "the conversation does not end with an answer"],
    ["the answer follows an answer", "\n\nHuman: a\n\nAssistant: b\n\nAssistant: c", "\n\nHuman: a\n\nAssistant: b\n\nAssistant: d",
      "no user turn comes before the last answer"],
  ])("skips a pair of transcripts with its reason when %s", (_, chosen, rejected, reason) => {
    expect(parseRecord({ chosen, rejected }, origin)).toEqual({ kind: "skipped", reason });
  });

  test("skips a pair of message conversations by the same rule", () => {
    const pair = { chosen: [...dialogue, assistant("4"), user("?"), assistant("4!")], rejected: [...dialogue, assistant("5")] };
    expect(parseRecord(pair, origin)).toEqual({ kind: "skipped", reason: "the two conversations differ in more than the last answer" });
  });

  const at = "^data\\.jsonl:3: ";
  test.each<[string, unknown, string]>([
    ["a list", [{ prompt: "a" }], "expected one JSON object, found a list; write one record per line"],
    ["a number", 4, "expected one JSON object, found a number; "],
    ["an unknown shape",
      { question: "a", answer: "b" }, 'expected a known record shape, found the fields "question", "answer"; ' +
        'the nearest shape is "prompt", "completion": map the fields with --data-fields prompt=question,completion=answer$'],
    ["a shape without a near one",
      { foo: "a" },
      'expected a known record shape, found the fields "foo"; write "prompt" with .* or map the fields, such as --data-fields'],
    ["answers of unknown names", { question: "a", better: "b", worse: "c" },
      '.*the nearest shape is "prompt", "chosen", "rejected": .* --data-fields prompt=question,chosen=better,rejected=worse$'],
    ["nothing", { prompt: null }, "expected a known record shape, found no fields; "],
    ["rejected without chosen", { prompt: "a", rejected: "b" }, 'field "chosen": expected the preferred answer, found nothing; '],
    ["a completion without prompt", { completion: "b" }, 'field "prompt": expected text, found nothing; '],
    ["a blank prompt", { prompt: " " }, 'field "prompt": expected text, found blank text; '],
    ["an empty answer", { prompt: "a", chosen: "b", rejected: "" }, 'field "rejected": expected text, found blank text; '],
    ["an empty answer after a transcript", { prompt: question, completion: " " }, 'field "completion": expected text, found blank text; '],
    ["an answer of another type", { prompt: "a", chosen: 4, rejected: "b" }, 'field "chosen": expected text, found a number; '],
    ["an empty list", { messages: [] }, 'field "messages": expected a list of messages, found an empty list; '],
    ["a list of strings", { prompt: ["a"] }, 'field "prompt\\[0\\]": expected an object, found text; '],
    ["an unknown role", { messages: [{ role: "tool", content: "a" }] },
      'field "messages\\[0\\]\\.role": expected one of system, user, assistant, found "tool"; '],
    ["a missing role",
      { messages: [{ content: "a" }] }, 'field "messages\\[0\\]\\.role": expected one of system, user, assistant, found nothing; '],
    ["content in parts",
      { messages: [user("a"), { role: "assistant", content: [] }] }, 'field "messages\\[1\\]\\.content": expected text, found a list; '],
    ["an image", { messages: [{ role: "user", content: [{ type: "text", text: "a" }, { type: "image_url", image_url: {} }] }] },
      'field "messages\\[0\\]\\.content\\[1\\]": expected a part with "type": "text", found one with "type": "image_url"; '],
    ["a system field that is no text", { system: 4, prompt: "a" }, 'field "system": expected text, found a number; '],
    ["blank text", { text: " " }, 'field "text": expected text, found blank text; '],
    ["an instruction without text", { instruction: "", output: "a" }, 'field "instruction": expected text, found blank text; '],
    ["a blank message", { messages: [user("a"), assistant("")] }, 'field "messages\\[1\\]\\.content": expected text, found blank text; '],
    ["an unknown speaker",
      { conversations: [{ from: "bot", value: "a" }] }, 'field "conversations\\[0\\]\\.from": expected one of .*, found "bot"; '],
    ["a wrong conversation", { conversations: { a: 1 } }, 'field "conversations": expected a list of messages, found an object; '],
    ["an answer without question",
      { messages: [assistant("a")] }, 'field "messages": expected an end with a user message, .*, found an end with roles assistant; '],
    ["a prompt that holds the answer", { prompt: [user("a"), assistant("b")] },
      'field "prompt": expected the last message to be the user\'s, found one with role "assistant"; '],
    ["a transcript that holds the answer",
      { prompt: `${question} 4` }, 'field "prompt": expected the last message to be the user\'s, found one with role "assistant"; '],
    ["answers of two turns", { prompt: "a", completion: [assistant("b"), user("c"), assistant("d")] },
      'field "completion": expected one assistant message, .*, found messages with roles assistant, user, assistant; '],
    ["a conversation after another prompt", { prompt: "a", chosen: [user("b"), assistant("c")], rejected: "d" },
      'field "chosen": expected one assistant message, .*, found messages with roles user, assistant; '],
    ["plain answers without prompt",
      { chosen: "a", rejected: "b" }, 'field "chosen": expected a whole conversation .*, found text; or put the question into "prompt"'],
  ])("refuses %s", async (_, value, message) => {
    await expectConfigError(() => parseRecord(value, origin), new RegExp(at + message));
  });
});
