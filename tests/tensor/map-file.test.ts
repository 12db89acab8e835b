import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { mapFile } from "../../src/tensor/create.ts";

const folder = mkdtempSync(join(tmpdir(), "tschat-map-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("mapFile", () => {
  test("gives the file's bytes, also as another dtype", () => {
    const path = join(folder, "small");
    writeFileSync(path, new Uint8Array(Float32Array.of(1, -2, 3).buffer));
    const mapped = mapFile(path, 12);
    expect([mapped.dtype, mapped.shape]).toEqual(["uint8", [12]]);
    expect(mapped.viewAs("float32").toArray()).toEqual([1, -2, 3]);
    expect(mapped.slice(0, 4, 12).viewAs("float32").toArray()).toEqual([-2, 3]);
  });

  test("reads nothing until it is used", () => {
    const path = join(folder, "large");
    const bytes = 128 * 2 ** 20;
    const content = new Uint8Array(bytes);
    content[bytes - 1] = 7;
    writeFileSync(path, content);
    const before = process.memoryUsage.rss();
    const mapped = mapFile(path, bytes);
    expect(mapped.slice(0, -1).toArray()).toEqual([7]);
    expect((process.memoryUsage.rss() - before) / 2 ** 20).toBeLessThan(16);
  });

  test("a missing file is named", () => {
    expect(() => mapFile(join(folder, "missing"), 4)).toThrow(
      expect.objectContaining({ name: "NativeError", message: expect.stringMatching(/missing/) }),
    );
  });
});
