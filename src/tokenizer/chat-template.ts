import { Template } from "@huggingface/jinja";
import { ConfigError } from "../errors.ts";
import type { Message } from "./message.ts";

/** A stretch of a rendered conversation that is encoded by itself. */
export interface Piece {
  text: string;
  /** True for an assistant's content with its end of turn, false for everything that leads to it. */
  isAnswer: boolean;
}

/** What a template may print, by the names that Hugging Face templates use. */
export type TemplateVariables = Readonly<Partial<Record<"bos_token" | "eos_token" | "unk_token", string>>>;

const PROBE_CONTENT = "tschat";

/** A checkpoint's chat template (Jinja), and the boundaries between prompts and answers in what it renders. */
export class ChatTemplate {
  readonly source: string;
  /** Text of the token that ends an assistant's turn. */
  readonly endOfTurn: string;
  readonly #template: Template;
  readonly #variables: TemplateVariables;

  /**
   * @param addedTokens texts that the tokenizer never splits or merges; the end of turn is one of them
   * @throws {ConfigError} for a template that does not parse, or whose assistant turn does not end with one added token
   */
  constructor(source: string, variables: TemplateVariables, addedTokens: readonly string[]) {
    this.source = source;
    this.#variables = variables;
    try {
      // Jinja reads \r\n as \n; this library does not.
      this.#template = new Template(source.replaceAll("\r\n", "\n"));
    } catch (cause) {
      throw new ConfigError(`chat template: cannot be parsed: ${messageOf(cause)}; correct chat_template.jinja`, { cause });
    }
    this.endOfTurn = this.#findEndOfTurn(addedTokens);
  }

  /** @throws {ConfigError} with the template's own text where it calls `raise_exception` */
  render(messages: readonly Message[], addGenerationPrompt: boolean): string {
    try {
      // Python passes tools and documents also where there are none, and templates ask whether they are none.
      const given = { messages, tools: null, documents: null, add_generation_prompt: addGenerationPrompt };
      return this.#template.render({ ...this.#variables, ...given });
    } catch (cause) {
      const roles = messages.map((message) => message.role).join(", ");
      throw new ConfigError(`chat template: cannot render the roles [${roles}]: ${messageOf(cause)}`, { cause });
    }
  }

  /**
   * The pieces up to the place where the next answer starts; the last one ends with the generation prompt.
   *
   * @throws {ConfigError} where a longer conversation does not start with the rendering of a shorter one
   */
  promptPieces(messages: readonly Message[]): Piece[] {
    const pieces = this.#answeredPieces(messages);
    const done = joinText(pieces);
    return [...pieces, { text: this.#continuation(messages, true, done, messages.length), isAnswer: false }];
  }

  /**
   * The pieces up to the last end of turn. What the template prints after that (a line break in ChatML)
   * belongs to the prompt of a turn that does not exist, and is dropped.
   *
   * For `[user "Hi", assistant "Hello"]` in ChatML:
   *
   *     { text: "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", isAnswer: false }
   *     { text: "Hello<|im_end|>", isAnswer: true }
   *
   * @throws {ConfigError} as `promptPieces`, and for a conversation that does not end with an assistant's turn
   */
  conversationPieces(messages: readonly Message[]): Piece[] {
    const last = messages.at(-1);
    if (last?.role !== "assistant") {
      const found = last === undefined ? "it has no messages" : `it ends with a ${last.role} message`;
      throw new ConfigError(`conversation: cannot be encoded: ${found}, expected an assistant message at the end`);
    }
    return this.#answeredPieces(messages);
  }

  /** A prompt piece and an answer piece for every assistant turn. */
  #answeredPieces(messages: readonly Message[]): Piece[] {
    const pieces: Piece[] = [];
    const turns = messages.flatMap(({ role }, index) => (role === "assistant" ? [index] : []));
    let done = "";
    for (const [n, turn] of turns.entries()) {
      const prompt = this.#continuation(messages.slice(0, turn), true, done, turn);
      done += prompt;
      const answer = this.#answer(messages.slice(0, turns[n + 1] ?? messages.length), done, turn);
      pieces.push({ text: prompt, isAnswer: false }, { text: answer, isAnswer: true });
      done += answer;
    }
    return pieces;
  }

  /**
   * The answer of turn `turn` with its end, as `messages` print it, which go on up to the next answer. Templates of models that think
   * print an answer without its thoughts, or without their place, as soon as something follows (Qwen3).
   */
  #answer(messages: readonly Message[], done: string, turn: number): string {
    const asLast = this.#upToEndOfTurn(this.#continuation(messages.slice(0, turn + 1), false, done, turn), turn);
    if (messages.length === turn + 1) return asLast;
    const next = this.#continuation(messages, true, done, messages.length);
    if (next.startsWith(asLast)) return asLast;
    const content = messages[turn]?.content.trim() ?? "";
    const start = next.indexOf(content);
    const end = start < 0 ? -1 : next.indexOf(this.endOfTurn, start + content.length);
    if (end >= 0) return next.slice(0, end + this.endOfTurn.length);
    throw this.#rewritten(messages.length, done + asLast, done + next);
  }

  /** What rendering `messages` adds to `done`. */
  #continuation(messages: readonly Message[], addGenerationPrompt: boolean, done: string, turn: number): string {
    const rendered = this.render(messages, addGenerationPrompt);
    if (rendered.startsWith(done)) return rendered.slice(done.length);
    throw this.#rewritten(turn, done, rendered);
  }

  #rewritten(turn: number, expected: string, found: string): ConfigError {
    return new ConfigError(
      `chat template: turn ${turn + 1} changes what was rendered before it: expected the rendering to start with ` +
        `${quoteEnd(expected)}, found ${quoteEnd(found)}; use a template that only appends`,
    );
  }

  #upToEndOfTurn(answer: string, turn: number): string {
    // The last one: content may quote the token's text, and training must not stop there.
    const start = answer.lastIndexOf(this.endOfTurn);
    if (start >= 0) return answer.slice(0, start + this.endOfTurn.length);
    throw new ConfigError(`chat template: turn ${turn + 1} does not end with ${this.endOfTurn}: found ${quoteEnd(answer)}`);
  }

  #findEndOfTurn(addedTokens: readonly string[]): string {
    const question: Message = { role: "user", content: "Hello" };
    const rendered = this.render([question, { role: "assistant", content: PROBE_CONTENT }], false);
    const start = rendered.lastIndexOf(PROBE_CONTENT);
    if (start < 0) throw new ConfigError("chat template: does not print an assistant's content; use a template for conversations");
    const tail = rendered.slice(start + PROBE_CONTENT.length).trimStart();
    const matches = addedTokens.filter((token) => token !== "" && tail.startsWith(token));
    const longest = matches.sort((a, b) => b.length - a.length)[0];
    if (longest !== undefined) return longest;
    throw new ConfigError(
      `chat template: an assistant's turn must end with one special token: found ${tail === "" ? "nothing" : JSON.stringify(tail)} ` +
        "after the content; end the turn with eos_token or with another special token of this tokenizer",
    );
  }
}

function joinText(pieces: readonly Piece[]): string {
  return pieces.map((piece) => piece.text).join("");
}

/** The last 60 characters as a JSON string: where two renderings differ is near their end. */
function quoteEnd(text: string): string {
  return JSON.stringify(text.length <= 60 ? text : `...${text.slice(-60)}`);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
