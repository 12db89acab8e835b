import { describe, expect, test } from "vitest";
import { ChatTemplate } from "../../src/tokenizer/chat-template.ts";
import type { Message } from "../../src/tokenizer/message.ts";
import { transcriptTemplate } from "../../src/tokenizer/templates.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { chatmlParts } from "./fixture.ts";

const ADDED = ["<e>", "<eot>", "<eot><eot>"];
const template = (source: string) => new ChatTemplate(source, { eos_token: "<e>", bos_token: "<b>" }, ADDED);
const each = (body: string) => `{% for m in messages %}${body}{% endfor %}`;

const conversation: Message[] = [
  { role: "user", content: "q1" },
  { role: "assistant", content: "a1" },
  { role: "user", content: "q2" },
  { role: "assistant", content: "a2" },
];

describe("the built-in template", () => {
  test("prints the transcript form with an end token after every answer", () => {
    const chat = template(transcriptTemplate(false));
    expect(chat.render(conversation, false)).toBe("\n\nHuman: q1\n\nAssistant: a1<e>\n\nHuman: q2\n\nAssistant: a2<e>");
    expect(chat.render(conversation.slice(0, 1), true)).toBe("\n\nHuman: q1\n\nAssistant:");
    expect(chat.endOfTurn).toBe("<e>");
  });

  test("keeps contents as they are", () => {
    const content = "  {{ x }} {% if %}\r\n\t'\"\\ end \n";
    expect(template(transcriptTemplate(false)).render([{ role: "user", content }], false)).toBe(`\n\nHuman: ${content}`);
  });

  test("puts a system message first, and refuses it elsewhere", () => {
    const system: Message = { role: "system", content: "Be kind." };
    const chat = template(transcriptTemplate(true));
    expect(chat.render([system, ...conversation.slice(0, 1)], true)).toBe("<b>Be kind.\n\nHuman: q1\n\nAssistant:");
    expect(() => chat.render([...conversation.slice(0, 1), system], false)).toThrow(
      expect.objectContaining({
        name: "ConfigError",
        code: "E_CONFIG",
        message: "chat template: cannot render the roles [user, system]: no place for a message of role system here",
      }),
    );
  });

  test("is taken where the checkpoint has none, with bos where add_bos_token says so", async () => {
    const messages: Message[] = [{ role: "user", content: "q" }];
    const plain = await Tokenizer.fromParts(chatmlParts({ chat_template: undefined }));
    expect(plain.render(messages, { addGenerationPrompt: true })).toBe("\n\nHuman: q\n\nAssistant:");
    const withBos = await Tokenizer.fromParts(chatmlParts({ chat_template: undefined, add_bos_token: true }));
    expect(withBos.render(messages, { addGenerationPrompt: true })).toBe("<|im_start|>\n\nHuman: q\n\nAssistant:");
    expect((await withBos.encodePrompt(messages))[0]).toBe(withBos.bosTokenId);
    const { tokens, assistantMask } = await plain.encodeConversation([...messages, { role: "assistant", content: "yes" }]);
    const answer = tokens.filter((_, index) => assistantMask[index]);
    expect(plain.decode(answer, { skipSpecialTokens: false })).toBe(" yes<|im_end|>");
  });

  test("a list of templates gives the one named default", async () => {
    const named = (name: string) => ({ name, template: `${each("{{ m.content }}<|im_end|>")}{# ${name} #}` });
    const tokenizer = await Tokenizer.fromParts(chatmlParts({ chat_template: [named("tool_use"), named("default")] }));
    expect(tokenizer.chatTemplate).toContain("{# default #}");
    await expect(Tokenizer.fromParts(chatmlParts({ chat_template: [named("rag")] }))).rejects.toMatchObject({
      code: "E_CONFIG",
      message: expect.stringContaining('expected a template named "default", found rag'),
    });
  });
});

describe("the end of turn", () => {
  test("is the longest added token after the content, spaces before it aside", () => {
    expect(template(each("{{ m.content }} <eot><eot>x")).endOfTurn).toBe("<eot><eot>");
    expect(template(each("{{ m.content | trim }}\n<eot>\n")).endOfTurn).toBe("<eot>");
  });

  test("must be one added token", () => {
    const error = { name: "ConfigError", code: "E_CONFIG" };
    expect(() => template(each("{{ m.content }}### End"))).toThrow(
      expect.objectContaining({ ...error, message: expect.stringContaining('must end with one special token: found "### End"') }),
    );
    expect(() => template(each("{{ m.content }}\n"))).toThrow(
      expect.objectContaining({ ...error, message: expect.stringContaining("found nothing") }),
    );
    expect(() => template("fixed")).toThrow(expect.objectContaining({ ...error, message: expect.stringContaining("does not print") }));
  });
});

describe("pieces", () => {
  test("what follows an end of turn belongs to the next prompt, and is dropped at the end", () => {
    const chat = template(`${each("[{{ m.role }}]{{ m.content }}<eot>\n")}{% if add_generation_prompt %}[assistant]{% endif %}`);
    const pieces = [
      { text: "[user]q1<eot>\n[assistant]", isAnswer: false },
      { text: "a1<eot>", isAnswer: true },
      { text: "\n[user]q2<eot>\n[assistant]", isAnswer: false },
    ];
    expect(chat.promptPieces(conversation.slice(0, 3))).toEqual(pieces);
    expect(chat.conversationPieces(conversation)).toEqual([...pieces, { text: "a2<eot>", isAnswer: true }]);
  });

  test("an end of turn quoted in an answer does not end it", () => {
    const chat = template(each("{{ m.content }}<eot>"));
    const quoted: Message[] = [
      { role: "user", content: "q" },
      { role: "assistant", content: "say <eot> twice" },
    ];
    expect(chat.conversationPieces(quoted)[1]).toEqual({ text: "say <eot> twice<eot>", isAnswer: true });
  });

  test("a template that rewrites earlier turns is refused at the turn where it shows", () => {
    const chat = template(each("{% if loop.last or m.role == 'user' %}{{ m.content }}{% endif %}<eot>"));
    expect(() => chat.conversationPieces(conversation)).toThrow(
      expect.objectContaining({
        name: "ConfigError",
        code: "E_CONFIG",
        message:
          'chat template: turn 4 changes what was rendered before it: expected the rendering to start with "q1<eot>a1<eot>", ' +
          'found "q1<eot><eot>q2<eot>"; use a template that only appends',
      }),
    );
  });

  test("a generation prompt that the answer's turn does not start with is refused", () => {
    const chat = template(`${each("{{ m.content }}<eot>")}{% if add_generation_prompt %}<think>{% endif %}`);
    expect(() => chat.conversationPieces(conversation)).toThrow(
      expect.objectContaining({ message: expect.stringContaining("turn 2 changes") }),
    );
  });
});

test("a template that does not parse is refused", () => {
  expect(() => template("{% for %}")).toThrow(
    expect.objectContaining({ name: "ConfigError", code: "E_CONFIG", message: expect.stringContaining("cannot be parsed") }),
  );
});

test("line ends of Windows in a template are read as Jinja reads them", () => {
  expect(template(each("{{ m.content }}<eot>\r\n")).render(conversation.slice(0, 1), false)).toBe("q1<eot>\n");
});
