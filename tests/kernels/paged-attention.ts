import { cat, fromNumbers, full, indices, stack, zeros } from "../../src/tensor/create.ts";
import { operator } from "../../src/tensor/operator.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { type FloatType, guarded, random } from "./numbers.ts";

const op = {
  append: operator<undefined>("tschat::append_cache"), decode: operator("tschat::decode_attention"),
  prompt: operator("tschat::prompt_attention"),
};

export const pageTokens = 32;

/** A model's attention and the sequences that it reads. */
export interface Setting {
  dtype: FloatType;
  heads: number;
  kvHeads: number;
  headDim: number;
  /** Rotated elements of a head; 0: none. */
  dims?: number;
  /** Of scores before the softmax; 1 / sqrt(headDim) unless given. */
  scale?: number;
  window?: number;
  softcap?: number;
  alibi?: boolean;
  /** Tokens of each row that `append` brings into the cache. */
  prompts: readonly number[];
  /** Tokens that follow them one by one. */
  steps: number;
  /** Pages at the start that all rows share: their prompts begin alike. */
  sharedPages?: number;
}

/** The tensors of a setting: every row's tokens, the tables, and the slopes. */
export interface Inputs {
  /** [prompt + steps, (heads + 2 kvHeads) * headDim] of each row: queries, keys, values. */
  rows: Tensor[];
  cos: Tensor | undefined;
  signedSin: Tensor | undefined;
  slopes: Tensor | undefined;
}

export const scaleOf = ({ scale, headDim }: Setting): number => scale ?? headDim ** -0.5;

export function drawInputs(setting: Setting, seed = 1): Inputs {
  const { dtype, heads, kvHeads, headDim, dims = 0, prompts, steps, sharedPages = 0 } = setting;
  const width = (heads + 2 * kvHeads) * headDim, shared = random([sharedPages * pageTokens, width], seed, dtype);
  const rows = prompts.map((prompt, r) => {
    const own = random([prompt + steps - shared.size / width, width], seed + 1 + r, dtype, 1.5);
    return sharedPages > 0 ? cat([shared, own]) : own;
  });
  const positions = Math.max(...prompts) + steps;
  const table = (f: (position: number, i: number) => number) => guarded(fromNumbers(
    Array.from({ length: positions * dims }, (_, i) => f(Math.floor(i / dims), i % dims)), [positions, dims], dtype));
  const angle = (position: number, i: number) => position * 100 ** ((-2 * (i % (dims / 2))) / dims);
  return {
    rows,
    cos: dims > 0 ? table((position, i) => Math.cos(angle(position, i))) : undefined,
    signedSin: dims > 0 ? table((position, i) => Math.sin(angle(position, i)) * (i < dims / 2 ? -1 : 1)) : undefined,
    slopes: setting.alibi ? guarded(fromNumbers(Array.from({ length: heads }, (_, h) => 2 ** -(h + 1)), [heads], "float32")) : undefined,
  };
}

/** Numbers 0 to n - 1 in an order without pattern. */
function shuffled(n: number): number[] {
  const order = Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1, state = 12345; i > 0; i--) {
    state = (state * 1103515245 + 12345) % 2147483648;
    const j = state % (i + 1), last = order[i] as number;
    order[i] = order[j] as number;
    order[j] = last;
  }
  return order;
}

/**
 * Pools whose pages lie in any order. Every place holds infinities and NaN of an earlier use, and one page that no row owns keeps them:
 * it stands in the table for all pages that must not be read.
 */
export class PagedCache {
  readonly keys: Tensor;
  readonly values: Tensor;
  readonly setting: Setting;
  readonly inputs: Inputs;
  /** Pages of each row. */
  readonly table: number[][];
  readonly stalePage: number;

  constructor(setting: Setting, inputs: Inputs) {
    this.setting = setting;
    this.inputs = inputs;
    const { prompts, steps, sharedPages = 0, kvHeads, headDim, heads, dtype } = setting;
    const owned = prompts.map((prompt) => Math.ceil((prompt + steps) / pageTokens) - sharedPages);
    const pages = owned.reduce((sum, count) => sum + count, 0) + sharedPages + 1, free = shuffled(pages);
    const shared = free.splice(0, sharedPages);
    this.table = owned.map((count) => [...shared, ...free.splice(0, count)]);
    this.stalePage = free[0] as number;
    const pool = () => zeros([pages, kvHeads, pageTokens, Math.ceil(headDim / 16) * 16], dtype); // the padding of heads stays 0
    [this.keys, this.values] = [pool(), pool()];
    const tokens = pages * pageTokens, stale = full([tokens / 2, 2, (heads + 2 * kvHeads) * headDim], Number.NaN, dtype);
    stale.select(1, 1).fill_(Number.POSITIVE_INFINITY);
    const places = indices(Array.from({ length: tokens }, (_, i) => i)).handle;
    op.append(stale.reshape([tokens, -1]).handle, this.keys.handle, this.values.handle, places, places, null, null, heads);
  }

  placeOf(row: number, token: number): number {
    return (this.table[row]?.[Math.floor(token / pageTokens)] as number) * pageTokens + (token % pageTokens);
  }

  /** Brings tokens [from, to) of each row in, all rows in one call; gives the rotated `projected`. */
  append(ranges: readonly { row: number; from: number; to: number }[]): Tensor {
    const parts = ranges.map(({ row, from, to }) => (this.inputs.rows[row] as Tensor).slice(0, from, to));
    const tokens = ranges.flatMap(({ row, from, to }) => Array.from({ length: to - from }, (_, i) => ({ row, token: from + i })));
    const projected = guarded(cat(parts)), { cos, signedSin } = this.inputs;
    const positions = indices(tokens.map(({ token }) => token)), places = indices(tokens.map(({ row, token }) => this.placeOf(row, token)));
    op.append(
      projected.handle, this.keys.handle, this.values.handle, positions.handle, places.handle, cos?.handle ?? null,
      signedSin?.handle ?? null, this.setting.heads,
    );
    return projected;
  }

  /** All prompts; what rows share comes in once. */
  appendPrompts(): void {
    const { prompts, sharedPages = 0 } = this.setting;
    this.append(prompts.map((to, row) => ({ row, from: row === 0 ? 0 : sharedPages * pageTokens, to })));
  }

  /** One new token of each of `rows`, `step` tokens after its prompt: [rows, heads * headDim]. */
  decode(step: number, rows: readonly number[] = this.table.map((_, row) => row)): Tensor {
    const { heads, window = 0, softcap = 0, prompts } = this.setting, { cos, signedSin, slopes } = this.inputs;
    const positions = rows.map((row) => (prompts[row] as number) + step);
    const tokens = rows.map((row, i) => (this.inputs.rows[row] as Tensor).select(0, positions[i] as number));
    const projected = guarded(stack(tokens));
    const columns = Math.max(...rows.map((row) => (this.table[row] as number[]).length));
    const pages = rows.flatMap((row, i) => {
      const length = (positions[i] as number) + 1, hidden = window > 0 ? Math.floor(Math.max(0, length - window) / pageTokens) : 0;
      return Array.from({ length: columns }, (_, p) => (p < hidden ? this.stalePage : (this.table[row]?.[p] ?? this.stalePage)));
    });
    return new Tensor(op.decode(
      projected.handle, this.keys.handle, this.values.handle, fromNumbers(pages, [rows.length, columns], "int32").handle,
      indices(positions).handle, cos?.handle ?? null, signedSin?.handle ?? null, heads, scaleOf(this.setting), window, softcap,
      slopes?.handle ?? null,
    ));
  }

  /** Brings tokens in as `append` does and lets each attend to its row up to itself: [tokens, heads * headDim]. */
  attendPrompts(ranges: readonly { row: number; from: number; to: number }[]): Tensor {
    const { heads, window = 0, softcap = 0 } = this.setting;
    const rotated = this.append(ranges), columns = Math.max(...ranges.map(({ row }) => (this.table[row] as number[]).length));
    const pages = ranges.flatMap(({ row }) => Array.from({ length: columns }, (_, p) => this.table[row]?.[p] ?? this.stalePage));
    const each = (number: (sequence: number, token: number) => number) =>
      indices(ranges.flatMap(({ from, to }, i) => Array.from({ length: to - from }, (_, t) => number(i, from + t))));
    return new Tensor(op.prompt(
      rotated.handle, this.keys.handle, this.values.handle, fromNumbers(pages, [ranges.length, columns], "int32").handle,
      each((sequence) => sequence).handle, each((_, token) => token).handle, heads, scaleOf(this.setting), window, softcap,
      this.inputs.slopes?.handle ?? null,
    ));
  }
}
