import { ConfigError } from "../errors.ts";
import { readFile } from "./files/read.ts";
import { sourceFiles } from "./sources/locate.ts";

/** Settings of `textBlocks`. */
export interface TextBlockOptions {
  /** Tokens of a block; in DeepSpeed-Chat the longest prompt and the longest answer together. */
  readonly blockSize: number;
  /** The field that holds the text; "text" if not given, or else the first one. */
  readonly field?: string;
  /** Texts that are joined before they are cut; 1,000 if not given, as in DeepSpeed-Chat. */
  readonly batchSize?: number;
}

/** What `textBlocks` needs of a tokenizer; `Tokenizer` has it. */
export interface TextEncoder {
  encodeBatch(texts: readonly string[], options: { addSpecialTokens: boolean }): Promise<number[][]>;
}

/**
 * Plain texts for mixture training (DeepSpeed-Chat's unsupervised data) as blocks of tokens. As there, the texts of a batch are
 * encoded with the tokenizer's own special tokens, joined and cut; what is left behind the last whole block of a batch is thrown away,
 * but a batch with less than one block gives a short one.
 *
 * @param path a data file or a folder of them
 * @throws {ConfigError} for a file that cannot be read, and with file and line for a record without the text
 */
export async function* textBlocks(path: string, encoder: TextEncoder, options: TextBlockOptions): AsyncGenerator<number[]> {
  const { blockSize, batchSize = 1000 } = options;
  if (!Number.isInteger(blockSize) || blockSize < 1) {
    throw new RangeError(`blockSize: expected a whole number of at least 1, got ${blockSize}`);
  }
  let batch: string[] = [];
  for (const file of await sourceFiles(path)) {
    for await (const { value, line } of readFile(file)) {
      batch.push(textOf(value, `${file}:${line}`, options.field));
      if (batch.length < batchSize) continue;
      yield* cutBlocks(await encoder.encodeBatch(batch, { addSpecialTokens: true }), blockSize);
      batch = [];
    }
  }
  yield* cutBlocks(await encoder.encodeBatch(batch, { addSpecialTokens: true }), blockSize);
}

/**
 * Rows joined and cut into blocks.
 *
 *     cutBlocks([[1, 2, 3], [4, 5]], 2) // [1, 2], [3, 4]
 *     cutBlocks([[1], [2]], 3)          // [1, 2]
 */
export function cutBlocks(rows: readonly (readonly number[])[], blockSize: number): number[][] {
  const tokens = rows.flat();
  const end = tokens.length < blockSize ? tokens.length : tokens.length - (tokens.length % blockSize);
  return Array.from({ length: Math.ceil(end / blockSize) }, (_, i) => tokens.slice(i * blockSize, Math.min(end, (i + 1) * blockSize)));
}

function textOf(value: unknown, where: string, field?: string): string {
  const fields = typeof value === "object" && value !== null ? value as Record<string, unknown> : {};
  const name = field ?? ("text" in fields ? "text" : Object.keys(fields)[0]);
  const text = name === undefined ? undefined : fields[name];
  if (typeof text === "string") return text;
  const found = text === undefined ? "nothing" : JSON.stringify(text);
  throw new ConfigError(`${where}: field "${name ?? "text"}": expected text, found ${found}; name the field that holds it`);
}
