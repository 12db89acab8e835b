import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { unzip } from "../../scripts/lib/zip.mjs";
import { temporaryFolder } from "../temporary-folder.ts";
import { zipFile } from "./zip-file.ts";

// 3 MB that hardly compress (linear congruential generator), so that an entry spans several chunks of the reader.
const LARGE = Buffer.alloc(3_000_000);
for (let i = 0, state = 1; i < LARGE.length; i++) {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  LARGE[i] = state >>> 24;
}

async function unzipAll(archive: Buffer) {
  const folder = temporaryFolder();
  writeFileSync(join(folder, "a.zip"), archive);
  const out = join(folder, "out");
  return { out, count: await unzip(join(folder, "a.zip"), (name: string) => join(out, name)) };
}

describe("unzip", () => {
  test.each([
    ["deflated", {}],
    ["stored", { stored: true }],
    ["zip64", { zip64: true }],
  ])("restores %s entries", async (_kind, options) => {
    const entries = [
      { name: "lib/large.so", data: LARGE, ...options },
      { name: "lib/empty", data: Buffer.alloc(0), ...options },
      { name: "include/", data: Buffer.alloc(0), stored: true },
      { name: "include/a.h", data: Buffer.from("int a;\n"), ...options },
    ];
    const { out, count } = await unzipAll(zipFile(entries));
    expect(count).toBe(3); // the folder is no file
    expect(readFileSync(join(out, "lib/large.so")).equals(LARGE)).toBe(true);
    expect(readFileSync(join(out, "lib/empty")).length).toBe(0);
    expect(readFileSync(join(out, "include/a.h"), "utf8")).toBe("int a;\n");
  });

  test("takes only what is selected, under the name it is given, and reports the bytes", async () => {
    const folder = temporaryFolder();
    const archive = join(folder, "a.zip");
    writeFileSync(archive, zipFile([{ name: "skip", data: LARGE }, { name: "keep", data: Buffer.from("12345") }]));
    let bytes = 0;
    const select = (name: string) => (name === "keep" ? join(folder, "out/kept") : undefined);
    expect(await unzip(archive, select, (count: number) => (bytes += count))).toBe(1);
    expect(readdirSync(join(folder, "out"))).toEqual(["kept"]);
    expect(bytes).toBe(5);
  });

  test("finds the directory in front of a comment", async () => {
    const archive = Buffer.concat([zipFile([{ name: "a", data: Buffer.from("x") }]), Buffer.from("a comment")]);
    archive.writeUInt16LE(9, archive.length - 9 - 2);
    expect((await unzipAll(archive)).count).toBe(1);
  });

  test("refuses data that does not match its checksum", async () => {
    const archive = zipFile([{ name: "a", data: Buffer.from("hello"), stored: true }]);
    archive[31]! ^= 1; // first byte of the data: 30 bytes of header, 1 of name
    const message = expect.stringMatching(/a does not match its checksum; delete it/);
    await expect(unzipAll(archive)).rejects.toMatchObject({ name: "SetupError", message });
  });

  test("refuses a broken stream, a cut archive and something else altogether", async () => {
    const archive = zipFile([{ name: "a", data: LARGE }]);
    const broken = Buffer.from(archive);
    broken.fill(0xff, 31, 131);
    const message = expect.stringMatching(/cannot unpack .*: a: invalid/);
    await expect(unzipAll(broken)).rejects.toMatchObject({ name: "SetupError", message });
    await expect(unzipAll(archive.subarray(0, 1_000_000))).rejects.toThrow(/it has no end record/);
    await expect(unzipAll(Buffer.from("<html>"))).rejects.toThrow(/it has no end record/);
  });

  test.each(["../evil", "a/../../evil", "/tmp/evil"])("refuses the entry %s, which leaves its folder", async (name) => {
    await expect(unzipAll(zipFile([{ name, data: Buffer.from("x") }]))).rejects.toThrow(/leaves its folder/);
    expect(existsSync("/tmp/evil")).toBe(false);
  });
});
