import { spawn } from "node:child_process";
import { appendFileSync, readdirSync, readFileSync, statSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { sftCodec } from "../../../src/data/cache/sample-codec.ts";
import { type CacheKey, cachedEntries, defaultCacheFolder, type FillEntries, tokenCacheFor } from "../../../src/data/cache/token-cache.ts";
import type { SftSample } from "../../../src/data/encode.ts";
import { expectConfigError } from "../expect-config-error.ts";
import { tempFile, tempFolder } from "../temp-file.ts";

/** 3,000 entries, of which every seventh was dropped. */
const sampleOf = (i: number): SftSample | undefined =>
  (i % 7 === 3 ? undefined : { tokens: [i, i + 1, 50_000 + i], lossMask: [false, i % 2 === 0, true] });
const numEntries = 3000;

class Bench {
  readonly folder = tempFolder();
  readonly file = tempFile("some data\n");
  readonly notes: string[] = [];
  numFills = 0;

  readonly fill: FillEntries<SftSample> = async (add) => {
    this.numFills++;
    for (let i = 0; i < numEntries; i++) {
      const sample = sampleOf(i);
      await add(sample === undefined ? { length: i, reason: { kind: "dropped", text: "too long" } } : { length: 3, sample });
    }
    return numEntries + 5;
  };

  open(settings: CacheKey["settings"] = {}, encoder = "tokenizer", fill = this.fill) {
    const cache = { folder: this.folder, encoder, note: (line: string) => this.notes.push(line) };
    return cachedEntries(cache, { files: [this.file], settings }, sftCodec, fill);
  }

  tokenFiles(): string[] {
    return readdirSync(this.folder).filter((name) => name.endsWith(".tokens")).map((name) => join(this.folder, name));
  }
}

describe("cachedEntries", () => {
  test("gives back what was encoded, the second time without encoding", async () => {
    const bench = new Bench();
    for (const numFills of [1, 1]) {
      const source = await bench.open();
      expect(bench.numFills).toBe(numFills);
      expect([source.numLines, source.status.length, source.reasons]).toEqual([3005, 3000, [{ kind: "dropped", text: "too long" }]]);
      for (let i = 0; i < numEntries; i++) {
        const sample = sampleOf(i);
        expect([source.status[i], source.lengths[i]]).toEqual(sample === undefined ? [2, i] : [0, 3]);
        if (sample !== undefined) expect(source.sampleAt(i)).toEqual(sample);
      }
      expect(() => source.sampleAt(3)).toThrow(RangeError);
    }
    expect(readdirSync(bench.folder).filter((name) => !/\.(tokens|file\.json)$/.test(name))).toEqual([]);
    expect(bench.notes).toEqual([]);
  });

  test("encodes anew for other content, settings or another tokenizer, and not for a mere touch", async () => {
    const bench = new Bench();
    await bench.open();
    await bench.open({ maxSeqLen: 5 });
    await bench.open({}, "another");
    expect(bench.numFills).toBe(3);
    utimesSync(bench.file, 1, 1);
    await bench.open();
    expect(bench.numFills).toBe(3);
    const { size } = statSync(bench.file);
    writeFileSync(bench.file, "more data\n");
    expect(statSync(bench.file).size).toBe(size);
    await bench.open();
    expect(bench.numFills).toBe(4);
  });

  test.each<[string, (path: string) => void]>([
    ["cut short", (path) => truncateSync(path, 20_000)],
    ["empty", (path) => truncateSync(path, 0)],
    ["longer", (path) => appendFileSync(path, "x")],
    ["with one bit turned over in a sample", (path) => {
      const bytes = readFileSync(path);
      bytes[5000]! ^= 1;
      writeFileSync(path, bytes);
    }],
    ["of another version", (path) => {
      const bytes = readFileSync(path);
      bytes.writeUInt32LE(99, 8);
      writeFileSync(path, bytes);
    }],
  ])("notices a cache file that is %s, says so and encodes anew", async (_, damage) => {
    const bench = new Bench();
    await bench.open();
    const [path = ""] = bench.tokenFiles();
    const whole = readFileSync(path);
    damage(path);
    const source = await bench.open();
    expect(bench.numFills).toBe(2);
    expect(bench.notes[0]).toMatch(/\.tokens: damaged: .*; encoding the data again$/);
    expect(source.sampleAt(2998)).toEqual(sampleOf(2998));
    expect(readFileSync(path).equals(whole)).toBe(true);
  });

  test("encodes once for all that ask at the same time", async () => {
    const bench = new Bench();
    const sources = await Promise.all([bench.open(), bench.open(), bench.open()]);
    expect(bench.numFills).toBe(1);
    expect(sources.map((source) => source.sampleAt(11))).toEqual([sampleOf(11), sampleOf(11), sampleOf(11)]);
    expect(bench.notes).toHaveLength(2);
    expect(bench.notes[0]).toMatch(/data\.jsonl: process \d+ is encoding it; waiting$/);
  });

  test("leaves nothing when encoding fails, and starts over after a process that was killed", async () => {
    const bench = new Bench();
    const failing: FillEntries<SftSample> = async (add) => {
      await add({ length: 1, sample: { tokens: [1], lossMask: [true] } });
      throw new Error("no more");
    };
    await expect(bench.open({}, "tokenizer", failing)).rejects.toThrow("no more");
    expect(readdirSync(bench.folder).filter((name) => !name.endsWith(".file.json"))).toEqual([]);
    await bench.open();
    // What a killed process leaves: its lock and half a file.
    const child = spawn(process.execPath, ["-e", ""]);
    await new Promise((resolve) => child.once("exit", resolve));
    const [path = ""] = bench.tokenFiles();
    const ours = path.replace(/tokens$/, hostname());
    writeFileSync(`${ours}.lock`, JSON.stringify({ pid: child.pid, host: hostname() }));
    writeFileSync(`${ours}.tmp`, "half");
    truncateSync(path, 100);
    expect((await bench.open()).sampleAt(11)).toEqual(sampleOf(11));
    expect(readdirSync(bench.folder).filter((name) => /lock|tmp/.test(name))).toEqual([]);
  });

  test("refuses a file that changes while it is encoded", async () => {
    const bench = new Bench();
    const fill: FillEntries<SftSample> = async () => {
      appendFileSync(bench.file, "more\n");
      return 1;
    };
    await expectConfigError(() => bench.open({}, "tokenizer", fill),
      /data\.jsonl: expected a file that stays as it is, found that it was written to while it was read; start again/);
    expect(bench.tokenFiles()).toEqual([]);
  });

  test("says which setting to change when the folder cannot be made", async () => {
    const cache = { folder: join(tempFile("x"), "tokens"), encoder: "", note: () => {} };
    await expectConfigError(
      () => cachedEntries(cache, { files: [], settings: {} }, sftCodec, async () => 0),
      /^could not write .*tokens: .*; .*choose another --data-cache$/,
    );
  });
});

test("the cache lies where --data-cache says, or beside tschat's other downloads", () => {
  expect(defaultCacheFolder({ TSCHAT_CACHE: "/a", XDG_CACHE_HOME: "/b" })).toBe("/a/tokens");
  expect(defaultCacheFolder({ XDG_CACHE_HOME: "/b" })).toBe("/b/tschat/tokens");
  expect(defaultCacheFolder({})).toMatch(/\/\.cache\/tschat\/tokens$/);
  const tokenizer = { fingerprint: () => "f" };
  expect(tokenCacheFor("off", tokenizer, () => {})).toBeUndefined();
  expect(tokenCacheFor("/c", tokenizer, () => {})).toMatchObject({ folder: "/c", encoder: "f" });
});
