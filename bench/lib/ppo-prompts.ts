import { loadDataset } from "../../src/data/dataset.ts";
import type { Prompt } from "../../src/data/records.ts";
import { ConfigError } from "../../src/errors.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import type { Message } from "../../src/tokenizer/message.ts";
import { randomPrompts } from "./prompts.ts";

/** Batches of prompts, token ids each. */
export type PromptBatches = readonly (readonly (readonly number[])[])[];

/** How many prompts, and how they are cut into iterations. */
export interface BatchCounts {
  batches: number;
  batch: number;
}

/** Random prompts of one length. */
export function randomBatches({ batches, batch }: BatchCounts, promptLength: number, vocabSize: number): PromptBatches {
  return inBatches(randomPrompts(batches * batch, promptLength, vocabSize), batch);
}

/** How dialogues become tokens. */
export interface DataOptions {
  model: string;
  /** Longer prompts are left out. */
  promptLength: number;
  /** `chat`: with the model's template, as in `tschat ppo`; `text`: as DeepSpeed-Chat writes them. */
  format: "chat" | "text";
}

/**
 * The first prompts of a file.
 *
 * @throws {ConfigError} for a file that cannot be read or has too few prompts that are short enough
 */
export async function dataBatches(
  { batches, batch }: BatchCounts, file: string, { model, promptLength, format }: DataOptions,
): Promise<PromptBatches> {
  const tokenizer = await Tokenizer.load(model);
  const encode = (prompt: Prompt) => {
    if (typeof prompt === "string") return tokenizer.encode(prompt, { addSpecialTokens: true });
    return format === "chat" ? tokenizer.encodePrompt(prompt) : tokenizer.encode(plainText(prompt));
  };
  const prompts: number[][] = [];
  for (const { prompt } of (await loadDataset([file], "ppo", { seed: 0 })).train) {
    const tokens = await encode(prompt);
    if (tokens.length <= promptLength) prompts.push(tokens);
    if (prompts.length === batches * batch) return inBatches(prompts, batch);
  }
  throw new ConfigError(
    `${file}: has ${prompts.length} prompts of at most ${promptLength} tokens, needed are ${batches * batch} (${batches} batches of ` +
      `${batch}, one of them for the warm-up); lower --batch or --repeats`,
  );
}

/** A dialogue as DeepSpeed-Chat's readers of Anthropic's data write it: ` Human: ... Assistant: ... Human: ... Assistant:`. */
export function plainText(prompt: readonly Message[]): string {
  const turns = prompt.map(({ role, content }) => `${role === "assistant" ? "Assistant" : "Human"}: ${content.trim()}`);
  return ` ${[...turns, "Assistant:"].join("\n\n")}`;
}

/**
 * The same prompts, without up to 64 tokens at the end, none of the first row of a batch. Transformers gives its attention no mask where
 * nothing is padded, and then takes a path that is slower on the CPU; real prompts are padded.
 */
export function unequal(batches: PromptBatches): PromptBatches {
  const missing = (length: number, i: number, count: number): number => Math.floor((Math.min(64, length / 4) * i) / count);
  return batches.map((rows) => rows.map((row, i) => row.slice(0, row.length - missing(row.length, i, rows.length))));
}

function inBatches(prompts: readonly number[][], batch: number): number[][][] {
  return Array.from({ length: prompts.length / batch }, (_, i) => prompts.slice(i * batch, (i + 1) * batch));
}
