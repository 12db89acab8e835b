import { randomInt } from "node:crypto";
import { createInterface } from "node:readline/promises";
import { HybridEngine } from "../engine/hybrid-engine.ts";
import { ConfigError } from "../errors.ts";
import { CausalLM } from "../model/causal-lm.ts";
import { setNumThreads } from "../tensor/system.ts";
import type { Message } from "../tokenizer/message.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { ChatConfig } from "./chat-config.ts";

/** Where a session reads and writes; replaced in tests. */
export interface ChatTerminal {
  input: NodeJS.ReadableStream;
  output: NodeJS.WritableStream;
}

/**
 * Talks with a model until /quit or the end of input. The answer streams; Ctrl-C ends an answer, at the prompt the session.
 * The history keeps what fits into the model's context beside an answer: the oldest turns leave first.
 */
export async function chat(config: ChatConfig, terminal: ChatTerminal = { input: process.stdin, output: process.stdout }): Promise<void> {
  const { output } = terminal;
  if (config.threads !== undefined) setNumThreads(config.threads);
  const tokenizer = await Tokenizer.load(config.model);
  const model = (await CausalLM.load(config.model, config)).freeze();
  const engine = new HybridEngine(model, { tokenizer });
  const system: Message[] = config.system === undefined ? [] : [{ role: "system", content: config.system }];
  output.write(`${config.model}: ${(model.numParameters / 1e6).toFixed(0)} M parameters, ${model.dtype}. /clear forgets the conversation, /quit ends it.\n`);

  let history: Message[] = [];
  let request = 0;
  const seed = config.seed ?? randomInt(2 ** 31);
  let isAnswering = false, isCancelled = false;
  const lines = createInterface({ ...terminal, terminal: (output as NodeJS.WriteStream).isTTY === true });
  lines.on("SIGINT", () => {
    if (isAnswering) isCancelled = true;
    else lines.close();
  });
  lines.setPrompt("\nyou> ");
  lines.prompt();
  for await (const line of lines) {
    const text = line.trim();
    if (text === "/quit") break;
    if (text === "/clear") {
      history = [];
      output.write("(forgotten)\n");
    } else if (text.startsWith("/")) {
      output.write(`unknown command ${text}; there are /clear and /quit\n`);
    } else if (text !== "") {
      const { messages, tokens } = await fit(tokenizer, system, [...history, { role: "user", content: text }], model.spec.maxPositions, config.maxNewTokens);
      if (messages.length < history.length + 1) output.write(`(the oldest ${history.length + 1 - messages.length} messages no longer fit into the context of ${model.spec.maxPositions} tokens)\n`);
      const decoder = tokenizer.streamDecoder();
      const answer: string[] = [];
      const show = (piece: string) => {
        answer.push(piece);
        output.write(piece);
      };
      isAnswering = true;
      isCancelled = false;
      const { maxNewTokens, temperature, topP, topK } = config;
      for await (const { token, finishReason } of engine.stream(tokens, { maxNewTokens, temperature, topP, topK, seed, eosTokenId: tokenizer.endOfTurnTokenId, firstRequest: request })) {
        if (finishReason !== "eos") show(decoder.push(token));
        if (isCancelled) break;
      }
      show(decoder.end());
      isAnswering = false;
      request++;
      output.write(isCancelled ? " (stopped)\n" : "\n");
      history = [...messages, { role: "assistant", content: answer.join("") }];
    }
    lines.prompt();
  }
  lines.close();
  output.write("\n");
}

/**
 * The newest turns of a conversation that leave room for an answer.
 *
 * @throws {ConfigError} when the last message alone is too long
 */
async function fit(tokenizer: Tokenizer, system: readonly Message[], messages: readonly Message[], context: number, maxNewTokens: number) {
  // An answer may be asked longer than half of a short context; then half is kept for it.
  const room = context - Math.min(maxNewTokens, Math.floor(context / 2));
  let kept = [...messages];
  for (;;) {
    const tokens = await tokenizer.encodePrompt([...system, ...kept]);
    if (tokens.length <= room) return { messages: kept, tokens };
    if (kept.length === 1) throw new ConfigError(`the message has ${tokens.length} tokens with its frame, there is room for ${room} (context ${context}); send a shorter one`);
    kept = kept.slice(2); // a question and its answer
  }
}
