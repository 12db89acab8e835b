import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { SafetensorsFile } from "../../src/tensor/safetensors.ts";
import { failure } from "../failure.ts";
import { temporaryFolder } from "../temporary-folder.ts";

/** Writes a file with this header, as text or as an object, and data of so many bytes (0, 1, 2, ...). */
function write(header: string | Record<string, unknown>, dataBytes: number, claimed?: bigint): string {
  const text = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(claimed ?? BigInt(text.length));
  const path = join(temporaryFolder(), "model.safetensors");
  writeFileSync(path, Buffer.concat([length, text, Uint8Array.from({ length: dataBytes }, (_, i) => i)]));
  return path;
}
const entry = (dtype: string, shape: readonly unknown[], from: number, to: number) => ({ dtype, shape, data_offsets: [from, to] });

describe("a file", () => {
  test("of every dtype gives them, wherever they begin", () => {
    // One byte in front makes every wider element begin at an odd place of the data; the header's length shifts them further.
    for (const padding of ["", " ", "  ", "   "]) {
      const header = {
        a: entry("U8", [1], 0, 1),
        b: entry("F32", [1], 1, 5),
        c: entry("I64", [1], 5, 13),
        d: entry("I16", [2], 13, 17),
        none: entry("F32", [0, 4], 17, 17),
        e: entry("F64", [], 17, 25),
      };
      const file = new SafetensorsFile(write(JSON.stringify(header) + padding, 25));
      const view = new DataView(Uint8Array.from({ length: 25 }, (_, i) => i).buffer);
      expect(file.read("b").toArray()).toEqual([view.getFloat32(1, true)]);
      expect(Number(file.read("c").numbers()[0])).toBe(Number(view.getBigInt64(5, true)));
      expect(file.read("d").toArray()).toEqual([view.getInt16(13, true), view.getInt16(15, true)]);
      expect(file.read("e").toArray()).toBe(view.getFloat64(17, true));
      expect(file.read("none").shape).toEqual([0, 4]);
    }
  });

  test("whose header lists tensors in another order than they lie is read", () => {
    const file = new SafetensorsFile(write({ b: entry("U8", [2], 1, 3), a: entry("U8", [1], 0, 1) }, 3));
    expect([file.read("a").toArray(), file.read("b").toArray()]).toEqual([[0], [1, 2]]);
  });
});

describe("a file is refused", () => {
  test.each<[string, string | Record<string, unknown>, number, RegExp]>([
    [
      "with overlapping tensors",
      { a: entry("U8", [4], 0, 4), b: entry("U8", [4], 2, 6) },
      6,
      /: "b" overlaps "a", which the format forbids/,
    ],
    ["with two names for the same bytes", { a: entry("U8", [4], 0, 4), b: entry("U8", [4], 0, 4) }, 4, /: "b" overlaps "a"/],
    ["with a gap", { a: entry("U8", [2], 0, 2), b: entry("U8", [2], 3, 5) }, 5, /: "b" leaves a gap behind "a"/],
    ["with a gap in front", { a: entry("U8", [2], 2, 4) }, 4, /: "a" leaves a gap behind the header/],
    ["with bytes behind the last tensor", { a: entry("U8", [2], 0, 2) }, 5, /: 3 bytes follow the last tensor, which the format forbids/],
    ["with an end before its start", { a: entry("U8", [2], 4, 2) }, 4, /: "a" is U8\[2\] and needs 2 bytes, the header gives it -2$/],
    [
      "with an offset out of range",
      { a: entry("U8", [8], 0, 8) },
      4,
      /: truncated: "a" ends at byte \d+, the file has \d+; download it again$/,
    ],
    ["with a negative offset", { a: entry("U8", [2], -2, 0) }, 4, /: "a" has a malformed shape or offsets$/],
    ["with an offset of a fraction", { a: entry("U8", [2], 0.5, 2.5) }, 4, /: "a" has a malformed shape or offsets$/],
    ["with one offset", { a: { dtype: "U8", shape: [1], data_offsets: [0] } }, 4, /: "a" has a malformed shape or offsets$/],
    ["with a size of text", { a: entry("U8", ["4"], 0, 4) }, 4, /: "a" has a malformed shape or offsets$/],
    [
      "with sizes that overflow",
      { a: entry("F32", [2 ** 40, 2 ** 40], 0, 4) },
      4,
      /: "a" is F32\[1099511627776, 1099511627776\] and needs /,
    ],
    ["with an entry of null", { a: null }, 4, /: "a" has dtype undefined, expected one of F32, /],
    [
      "with FP8",
      { a: entry("F8_E4M3", [4], 0, 4) },
      4,
      /: "a" has dtype "F8_E4M3", expected one of .*: choose the model's version in BF16 or F16$/,
    ],
    ["with a name of JavaScript's objects as dtype", { a: entry("constructor", [4], 0, 4) }, 4, /: "a" has dtype "constructor", expected/],
    [
      "with a name twice",
      '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
      1,
      /: the header has a name twice/,
    ],
    ["whose header is a list", "[1]", 0, /: the header is no JSON object/],
    ["whose header is null", "null", 0, /: the header is no JSON object/],
    ["whose header is cut off", '{"a":', 0, /: the header is no JSON; the file is damaged or no safetensors file$/],
  ])("%s", (_what, header, dataBytes, message) => {
    const path = write(header, dataBytes);
    expect(failure(() => new SafetensorsFile(path))).toMatchObject({
      name: "CheckpointError",
      code: "E_CHECKPOINT",
      message: expect.stringMatching(message),
    });
  });

  test.each([2n ** 64n - 1n, 2n ** 40n, 100_000_001n])("whose header claims %d bytes", (claimed) => {
    const path = write("{}", 0, claimed);
    expect(failure(() => new SafetensorsFile(path)).message).toMatch(
      /: the header claims \d+ bytes, the file has 10: it is truncated or no/,
    );
  });

  test("that is a Git LFS pointer, a folder, or not there", () => {
    const folder = temporaryFolder(),
      pointer = join(folder, "pointer.safetensors");
    writeFileSync(pointer, "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 269060552\n");
    expect(failure(() => new SafetensorsFile(pointer)).message).toBe(
      `${pointer}: is a Git LFS pointer, not the file itself; run "git lfs pull" in the folder, or download the file`,
    );
    mkdirSync(join(folder, "folder.safetensors"));
    expect(failure(() => new SafetensorsFile(join(folder, "folder.safetensors"))).message).toMatch(
      /: expected a file of weights, found something else/,
    );
    expect(failure(() => new SafetensorsFile(join(folder, "none"))).message).toMatch(/none: cannot be read: ENOENT/);
  });
});

test("a key inside of strings and nested objects does not count as a name", () => {
  const header = { __metadata__: { format: "pt", note: 'a "b": {"c": 1}' }, 'odd "name": {': entry("U8", [1], 0, 1) };
  expect(new SafetensorsFile(write(header, 1)).names()).toEqual(['odd "name": {']);
});
