import { randomInt } from "node:crypto";
import { createInterface } from "node:readline/promises";
import { HybridEngine } from "../engine/hybrid-engine.ts";
import { loadDisplay } from "../metrics/load-display.ts";
import { CausalLM } from "../model/causal-lm.ts";
import { observeLoading } from "../model/formats/load-progress.ts";
import { setNumThreads } from "../tensor/system.ts";
import type { Message } from "../tokenizer/message.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { ChatConfig } from "./chat-config.ts";

/** Where a session reads and writes; replaced in tests. */
export interface ChatTerminal {
  input: NodeJS.ReadableStream;
  output: NodeJS.WritableStream;
}

/** Talks with a model until /quit or the end of input. The answer streams; Ctrl-C ends an answer, at the prompt the session. */
export async function chat(config: ChatConfig, terminal: ChatTerminal = { input: process.stdin, output: process.stdout }): Promise<void> {
  const { output } = terminal;
  if (config.threads !== undefined) setNumThreads(config.threads);
  const tokenizer = await Tokenizer.load(config.model);
  const model = (await observeLoading(loadDisplay(output), () => CausalLM.load(config.model, config))).freeze();
  const engine = new HybridEngine(model, { tokenizer, selfCheck: false }); // nothing is trained here
  const conversation = new Conversation(engine, tokenizer, config, output);
  const size = `${(model.numParameters / 1e6).toFixed(0)} M parameters`;
  output.write(`${config.model}: ${size}, ${model.dtype}. /clear forgets the conversation, /quit ends it.\n`);

  const lines = createInterface({ ...terminal, terminal: (output as NodeJS.WriteStream).isTTY === true });
  let isOpen = true;
  lines.on("close", () => {
    isOpen = false;
  });
  lines.on("SIGINT", () => {
    if (!conversation.cancel()) lines.close();
  });
  lines.setPrompt("\nyou> ");
  lines.prompt();
  for await (const line of lines) {
    const text = line.trim();
    if (text === "/quit") break;
    if (text === "/clear") {
      conversation.clear();
      output.write("(forgotten)\n");
    } else if (text.startsWith("/")) {
      output.write(`unknown command ${text}; there are /clear and /quit\n`);
    } else if (text !== "") {
      await conversation.ask(text);
    }
    if (isOpen) lines.prompt(); // a pipe may have ended while its last lines wait for their answers
  }
  lines.close();
  output.write("\n");
}

/** The turns so far, as much of them as the model's context holds beside an answer: the oldest leave first. */
class Conversation {
  readonly #engine: HybridEngine;
  readonly #tokenizer: Tokenizer;
  readonly #config: ChatConfig;
  readonly #output: NodeJS.WritableStream;
  readonly #seed: number;
  #history: readonly Message[] = [];
  #numRequests = 0;
  #isAnswering = false;
  #isCancelled = false;

  constructor(engine: HybridEngine, tokenizer: Tokenizer, config: ChatConfig, output: NodeJS.WritableStream) {
    this.#engine = engine;
    this.#tokenizer = tokenizer;
    this.#config = config;
    this.#output = output;
    this.#seed = config.seed ?? randomInt(2 ** 31);
  }

  clear(): void {
    this.#history = [];
  }

  /** Ends the answer that is being given; false when there is none. */
  cancel(): boolean {
    this.#isCancelled = true;
    return this.#isAnswering;
  }

  /** Answers a message; one that is too long for the model is refused, and the conversation stays as it was. */
  async ask(text: string): Promise<void> {
    const messages: Message[] = [...this.#history, { role: "user", content: text }];
    const fitting = await this.#fit(messages);
    if (!fitting) return;
    const dropped = messages.length - fitting.messages.length;
    if (dropped > 0) this.#output.write(`(the oldest ${dropped} messages no longer fit into the context of ${this.#context} tokens)\n`);
    this.#isAnswering = true;
    this.#isCancelled = false;
    const answer = await this.#answer(fitting.tokens);
    this.#isAnswering = false;
    this.#output.write(this.#isCancelled ? " (stopped)\n" : "\n");
    this.#history = [...fitting.messages, { role: "assistant", content: answer }];
  }

  get #context(): number { return this.#engine.model.spec.maxPositions; }

  /** Streams the answer to the output. */
  async #answer(prompt: readonly number[]): Promise<string> {
    const { maxNewTokens, temperature, topP, topK } = this.#config;
    const decoder = this.#tokenizer.streamDecoder();
    const answer: string[] = [];
    const show = (piece: string) => {
      answer.push(piece);
      this.#output.write(piece);
    };
    const stream = this.#engine.stream(prompt, {
      maxNewTokens, temperature, topP, topK, seed: this.#seed, eosTokenId: this.#tokenizer.endOfTurnTokenId,
      firstRequest: this.#numRequests++,
    });
    for await (const { token, finishReason } of stream) {
      if (finishReason !== "eos") show(decoder.push(token));
      if (this.#isCancelled) break;
    }
    show(decoder.end());
    return answer.join("");
  }

  /** The newest turns that leave room for an answer, as tokens too; undefined, and said so, when the last message alone is too long. */
  async #fit(messages: readonly Message[]): Promise<{ messages: readonly Message[]; tokens: number[] } | undefined> {
    const { maxNewTokens, system } = this.#config;
    const head: Message[] = system === undefined ? [] : [{ role: "system", content: system }];
    // An answer may be asked longer than half of a short context; then half is kept for it.
    const room = this.#context - Math.min(maxNewTokens, Math.floor(this.#context / 2));
    for (let kept = messages; ; kept = kept.slice(2)) { // a question and its answer
      const tokens = await this.#tokenizer.encodePrompt([...head, ...kept]);
      if (tokens.length <= room) return { messages: kept, tokens };
      if (kept.length > 1) continue;
      this.#output.write(
        `(the message has ${tokens.length} tokens with its frame, there is room for ${room} of the context's ${this.#context}: ` +
          "send a shorter one)\n",
      );
      return undefined;
    }
  }
}
