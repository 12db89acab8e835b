import { describe, expect, test } from "vitest";
import { fromNumbers, indices, zeros } from "../../src/tensor/create.ts";
import { operator } from "../../src/tensor/operator.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { failure } from "../failure.ts";

// Two rows, 4 heads of 20 on 2, in a cache of 3 pages; the rows hold 64 tokens, the tables 50 positions.
const heads = 4, width = (4 + 2 * 2) * 20;
const pool = () => zeros([3, 2, 32, 32]);
const table = () => zeros([50, 12]);
const pages = (...numbers: number[]) => fromNumbers(numbers, [2, 2], "int32");

interface Arguments {
  projected: Tensor;
  keys: Tensor;
  values: Tensor;
  pages: Tensor;
  positions: Tensor;
  places: Tensor;
  sequences: Tensor;
  cos: Tensor | undefined;
  signedSin: Tensor | undefined;
  heads: number;
  slopes: Tensor | undefined;
}
const good = (): Arguments => ({
  projected: zeros([2, width]), keys: pool(), values: pool(), pages: pages(0, 1, 2, 2), positions: indices([3, 40]),
  places: indices([3, 40]), sequences: indices([0, 1]), cos: table(), signedSin: table(), heads, slopes: undefined,
});

const op = {
  append: operator<undefined>("tschat::append_cache"), decode: operator("tschat::decode_attention"),
  prompt: operator("tschat::prompt_attention"),
};
const calls = {
  append_cache: (a: Arguments) => op.append(
    a.projected.handle, a.keys.handle, a.values.handle, a.positions.handle, a.places.handle, a.cos?.handle ?? null,
    a.signedSin?.handle ?? null, a.heads,
  ),
  decode_attention: (a: Arguments) => op.decode(
    a.projected.handle, a.keys.handle, a.values.handle, a.pages.handle, a.positions.handle, a.cos?.handle ?? null,
    a.signedSin?.handle ?? null, a.heads, 0.2, 0, 0, a.slopes?.handle ?? null,
  ),
  prompt_attention: (a: Arguments) => op.prompt(
    a.projected.handle, a.keys.handle, a.values.handle, a.pages.handle, a.sequences.handle, a.positions.handle, a.heads, 0.2, 0, 0,
    a.slopes?.handle ?? null,
  ),
};
const all = ["append_cache", "decode_attention", "prompt_attention"] as const;
const rotating = ["append_cache", "decode_attention"] as const, attending = ["decode_attention", "prompt_attention"] as const;

const cases: [string, readonly (keyof typeof calls)[], Partial<Arguments>, string][] = [
  ["float64", all, { projected: zeros([2, width], "float64") }, "expected float32 or bfloat16, got Double"],
  ["pools of three dimensions", all, { keys: zeros([3, 32, 32]), values: zeros([3, 32, 32]) },
    "expected keys and values [pages, heads, 32, head size], got [3, 32, 32] and [3, 32, 32]"],
  ["pages of another size", all, { keys: zeros([3, 2, 16, 32]), values: zeros([3, 2, 16, 32]) },
    "expected keys and values [pages, heads, 32, head size], got [3, 2, 16, 32]"],
  ["pools that differ", all, { values: zeros([4, 2, 32, 32]) },
    "expected keys and values [pages, heads, 32, head size], got [3, 2, 32, 32] and [4, 2, 32, 32]"],
  ["keys of another type", all, { keys: zeros([3, 2, 32, 32], "bfloat16") }, "the cache must be contiguous and of type Float"],
  ["values that do not lie together", all, { values: zeros([3, 2, 32, 64]).slice(3, 0, 32) },
    "the cache must be contiguous and of type Float"],
  ["a pool without heads", all, { keys: zeros([3, 0, 32, 32]), values: zeros([3, 0, 32, 32]) }, "with 4 and 0 heads"],
  ["heads that the width is no multiple of", all, { heads: 3 },
    "expected contiguous [rows, (heads + 2 kvHeads) * head size] with 3 and 2 heads, got [2, 160]"],
  ["heads that do not divide among key heads", all, { heads: 1, projected: zeros([2, 5 * 20]) }, "with 1 and 2 heads"],
  ["no heads", all, { heads: 0 }, "with 0 and 2 heads"],
  ["heads below 0", all, { heads: -4 }, "with -4 and 2 heads"],
  ["one dimension", all, { projected: zeros([width]) }, "got [160]"],
  ["rows that do not lie together", all, { projected: zeros([2, 2 * width]).slice(1, 0, width) }, "expected contiguous [rows"],
  ["heads of another size than the cache's", all, { projected: zeros([2, 8 * 40]) }, "the cache is made for heads of 32, expected 48"],
  ["tables of another type", rotating, { cos: zeros([50, 12], "bfloat16"), signedSin: zeros([50, 12], "bfloat16") },
    "rotary tables: expected contiguous Float [positions, dims], got BFloat16[50, 12]"],
  ["tables wider than a head", rotating, { cos: zeros([50, 22]), signedSin: zeros([50, 22]) },
    "rotary tables: expected contiguous Float [positions, dims], got Float[50, 22]"],
  ["tables of an odd width", rotating, { cos: zeros([50, 11]), signedSin: zeros([50, 11]) },
    "rotary tables: expected contiguous Float [positions, dims], got Float[50, 11]"],
  ["tables that differ", rotating, { signedSin: zeros([49, 12]) },
    "rotary tables: expected contiguous Float [positions, dims], got Float[49, 12]"],
  ["one table of two", rotating, { signedSin: undefined }, "rotary tables: expected both or neither"],
  ["positions of another type", all, { positions: fromNumbers([3, 40], [2], "int32") },
    "positions: expected a contiguous Long[2], got Int[2]"],
  ["too few positions", all, { positions: indices([3]) }, "positions: expected a contiguous Long[2], got Long[1]"],
  ["a position below 0", all, { positions: indices([3, -1]) }, "a position is -1"],
  ["a position behind the tables", rotating, { positions: indices([3, 50]) }, "position 50 is not in the rotary tables of 50"],
  ["a position behind the pages", attending, { positions: indices([3, 64]) }, "position 64 has no page: the rows hold 64 tokens"],
  ["places of another type", ["append_cache"], { places: fromNumbers([3, 40], [2], "int32") },
    "places: expected a contiguous Long[2], got Int[2]"],
  ["too many places", ["append_cache"], { places: indices([3, 40, 41]) }, "places: expected a contiguous Long[2], got Long[3]"],
  ["a place below 0", ["append_cache"], { places: indices([-1, 40]) }, "place -1 is outside the cache of 3 pages"],
  ["a place behind the cache", ["append_cache"], { places: indices([3, 96]) }, "place 96 is outside the cache of 3 pages"],
  ["pages of another type", attending, { pages: pages(0, 1, 2, 2).to("int64") }, "pages: expected a contiguous Int[2, 2], got Long[2, 2]"],
  ["pages for another number of rows", ["decode_attention"], { pages: pages(0, 1, 2, 2).slice(0, 0, 1) },
    "pages: expected 2 rows, got [1, 2]"],
  ["a page below 0", attending, { pages: pages(0, -1, 2, 2) }, "page -1 is outside the cache of 3"],
  ["a page behind the cache", attending, { pages: pages(0, 1, 2, 3) }, "page 3 is outside the cache of 3"],
  ["pages of one dimension", attending, { pages: indices([0, 1]).to("int32") }, "pages: expected [rows, pages], got [2]"],
  ["sequences of another type", ["prompt_attention"], { sequences: indices([0, 1]).to("int32") },
    "sequences: expected a contiguous Long[2], got Int[2]"],
  ["a sequence below 0", ["prompt_attention"], { sequences: indices([0, -1]) }, "sequence -1 is outside the 2 rows of pages"],
  ["a sequence without pages", ["prompt_attention"], { sequences: indices([0, 2]) }, "sequence 2 is outside the 2 rows of pages"],
  ["slopes of another type", attending, { slopes: zeros([4], "bfloat16") }, "slopes: expected float32 [4]"],
  ["slopes of another number", attending, { slopes: zeros([3]) }, "slopes: expected float32 [4]"],
];

describe.each(all)("tschat::%s", (name) => {
  test("takes the arguments that the cases below start from", () => {
    expect(() => calls[name](good())).not.toThrow();
  });

  test.each(cases.filter(([, names]) => names.includes(name)))("refuses %s", (_, __, change, message) => {
    const error = failure(() => calls[name]({ ...good(), ...change }));
    expect(error).toMatchObject({ name: "NativeError", code: "E_NATIVE" });
    expect(error.message).toContain(message);
  });
});

test.each(attending)("tschat::%s has no gradient, and says so", (name) => {
  const y = new Tensor(calls[name]({ ...good(), projected: zeros([2, width]).requiresGrad_() }));
  expect(() => y.sum().backward()).toThrow(new RegExp(name));
});
