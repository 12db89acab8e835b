import { CheckpointError } from "../../errors.ts";

/** The values of a GGUF file's header that are written: a plain number is an uint32. */
export type GgufValue =
  | string | boolean | number | readonly string[] | Float32Array | Int32Array
  | { readonly float32: number };

/** A fraction as GGUF stores it. */
export function float32(value: number): GgufValue { return { float32: value }; }

/** Typed reading of the metadata of one architecture, with file and key in every message. */
export class GgufMetadata {
  readonly #values: Readonly<Record<string, unknown>>;
  readonly #architecture: string;
  readonly source: string;

  /** @param source the file, named in errors */
  constructor(values: Readonly<Record<string, unknown>>, architecture: string, source: string) {
    this.#values = values;
    this.#architecture = architecture;
    this.source = source;
  }

  /** The whole key: `block_count` is `llama.block_count`. */
  key(name: string): string { return `${this.#architecture}.${name}`; }

  /** A number; @throws {CheckpointError} where it is missing or another thing, e.g. one number for each layer */
  number(name: string): number {
    const value = this.optional(name);
    if (value !== undefined) return value;
    throw this.#unexpected(name, "a number");
  }

  /** A number, or undefined where the key is missing. @throws {CheckpointError} for a value that is no number */
  optional(name: string): number | undefined {
    const value = this.#values[this.key(name)];
    if (value === undefined) return undefined;
    if (typeof value === "number") return shortDecimal(value);
    throw this.#unexpected(name, "a number");
  }

  /** @throws {CheckpointError} when the number is there and is not `expected`, with the reason */
  expect(name: string, expected: number, reason: string): void {
    const found = this.optional(name);
    if (found === undefined || found === expected) return;
    throw new CheckpointError(`${this.source}: ${this.key(name)} is ${found}, expected ${expected}: ${reason}`);
  }

  /** A text, or undefined where the key is missing. @throws {CheckpointError} for a value that is no text */
  text(name: string): string | undefined {
    const value = this.#values[this.key(name)];
    if (value === undefined || typeof value === "string") return value;
    throw this.#unexpected(name, "a text");
  }

  /** A switch. @throws {CheckpointError} for a value that is none */
  boolean(name: string, otherwise: boolean): boolean {
    const value = this.#values[this.key(name)] ?? otherwise;
    if (typeof value === "boolean") return value;
    throw this.#unexpected(name, "true or false");
  }

  #unexpected(name: string, expected: string): CheckpointError {
    const value = this.#values[this.key(name)];
    const isList = Array.isArray(value) || ArrayBuffer.isView(value);
    const found = isList ? `a list of ${(value as ArrayLike<unknown>).length}` : JSON.stringify(value);
    return new CheckpointError(`${this.source}: ${this.key(name)}: expected ${expected}, found ${found ?? "nothing"}`);
  }
}

/** `bos_token_id`, `eos_token_id` and `pad_token_id`, those that the file has. */
export function tokenIds(values: Readonly<Record<string, unknown>>): Record<string, number> {
  const names = { bos_token_id: "bos", eos_token_id: "eos", pad_token_id: "padding" };
  const ids = Object.entries(names).map(([key, name]) => [key, values[`tokenizer.ggml.${name}_token_id`]]);
  return Object.fromEntries(ids.filter(([, id]) => typeof id === "number")) as Record<string, number>;
}

/**
 * The shortest decimal that rounds to a float32. GGUF holds fractions so, and that is what the original configuration said: 1e-5,
 * not 9.999999747378752e-6.
 */
export function shortDecimal(value: number): number {
  if (Number.isInteger(value)) return value;
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return short;
  }
  return value;
}
