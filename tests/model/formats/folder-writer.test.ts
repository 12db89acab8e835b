import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { CausalLM } from "../../../src/model/causal-lm.ts";
import { writeModelFolder } from "../../../src/model/formats/folder-writer.ts";
import { full } from "../../../src/tensor/create.ts";
import { failure } from "../../failure.ts";
import { temporaryFolder } from "../../temporary-folder.ts";
import { readTensors } from "../safetensors-file.ts";
import { writeTinyModel } from "../tiny-model.ts";

const filesIn = (folder: string) =>
  readdirSync(folder)
    .filter((name) => name.startsWith("model"))
    .sort();
const indexOf = (folder: string) => JSON.parse(readFileSync(join(folder, "model.safetensors.index.json"), "utf8")) as unknown;

/** Writes tensors of so many float32 elements, filled with their numbers: "t0", "t1", ... */
function write(folder: string, sizes: readonly number[], maxShardSize?: number): void {
  const tensors = sizes.map((size, i) => ({ name: `t${i}`, shape: [size], read: () => full([size], i) }));
  writeModelFolder(folder, { config: {}, generationConfig: {}, companions: new Map(), tensors, dtype: "float32", maxShardSize });
}

describe("weights", () => {
  test("fill file after file up to the limit; a larger tensor has one of its own", () => {
    const folder = temporaryFolder();
    write(folder, [2, 2, 1, 9, 1, 3], 16); // 8 + 8 | 4 | 36 | 4 + 12 bytes
    const shard = (n: number) => `model-0000${n}-of-00004.safetensors`;
    expect(filesIn(folder)).toEqual([1, 2, 3, 4].map(shard).concat("model.safetensors.index.json"));
    expect(indexOf(folder)).toEqual({
      metadata: { total_size: 72 },
      weight_map: { t0: shard(1), t1: shard(1), t2: shard(2), t3: shard(3), t4: shard(4), t5: shard(4) },
    });
    expect(readTensors(join(folder, shard(4)))).toEqual(
      new Map([
        ["t4", { dtype: "F32", shape: [1], data: [4] }],
        ["t5", { dtype: "F32", shape: [3], data: [5, 5, 5] }],
      ]),
    );
  });

  test("that fit exactly are one file without index", () => {
    const folder = temporaryFolder();
    write(folder, [2, 2], 16);
    expect(filesIn(folder)).toEqual(["model.safetensors"]);
  });

  test("of another number of files take the place of earlier ones, and other files stay", () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, "model-notes.txt"), "mine");
    writeFileSync(join(folder, "pytorch_model.bin"), "not ours");
    for (const [limit, files] of [
      [8, 3],
      [16, 2],
      [100, 1],
      [8, 3],
    ] as const) {
      write(folder, [2, 2, 2], limit);
      const shards =
        files === 1
          ? ["model.safetensors"]
          : [...Array.from({ length: files }, (_, i) => `model-0000${i + 1}-of-0000${files}.safetensors`), "model.safetensors.index.json"];
      expect(filesIn(folder)).toEqual([...shards, "model-notes.txt"].sort());
    }
    expect(readdirSync(folder)).toContain("pytorch_model.bin");
  });

  test("with a limit of nothing are a mistake of the caller", () => {
    const folder = temporaryFolder();
    expect(failure(() => write(folder, [1], 0))).toMatchObject({
      name: "RangeError",
      message: "maxShardSize: expected a number of bytes above 0, found 0",
    });
    expect(readdirSync(folder)).toEqual([]);
  });
});

test("a model that is saved in shards is the same, and over its own source too", async () => {
  const source = writeTinyModel(temporaryFolder(), { family: "opt" }),
    folder = temporaryFolder();
  const model = await CausalLM.load(source, { dtype: "bfloat16" });
  const expected = readTensors(join(source, "model.safetensors"));
  const inShards = () =>
    new Map(
      filesIn(folder)
        .filter((name) => name.endsWith("s"))
        .flatMap((name) => [...readTensors(join(folder, name))]),
    );

  await model.save(folder, { flatOf: (block) => model.masterOf(block), maxShardSize: 20_000 });
  expect(filesIn(folder).length).toBeGreaterThan(3);
  expect(inShards()).toEqual(expected);
  for (const name of filesIn(folder)) expect(statSync(join(folder, name)).size).toBeLessThan(24_000);

  const again = await CausalLM.load(folder, { dtype: "bfloat16" });
  // Its masters are read from the very shards that are replaced.
  for (const maxShardSize of [20_000, 9_000, 1e9]) {
    await again.save(folder, { flatOf: (block) => again.masterOf(block), maxShardSize });
    expect(inShards()).toEqual(expected);
  }
  expect(filesIn(folder)).toEqual(["model.safetensors"]);
});
