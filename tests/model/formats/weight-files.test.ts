import { copyFileSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openCheckpoint } from "../../../src/model/checkpoint-source.ts";
import { openWeightFiles } from "../../../src/model/formats/weight-files.ts";
import { failure, rejection } from "../../failure.ts";
import { temporaryFolder } from "../../temporary-folder.ts";
import { type PlainTensor, writeTensors } from "../safetensors-file.ts";
import { writeTinyModel } from "../tiny-model.ts";
import { archive, floats, join as joinBytes, pickle, tensorCall, text } from "./torch-archive.ts";

const one = (value: number): PlainTensor => ({ shape: [1], data: [value] });
/** A file of torch.save with tensors [2, 2] of the same numbers under these names. */
const torchFile = (...names: string[]) =>
  archive(pickle("}", ...names.map((name) => joinBytes(text(name), tensorCall(), "s"))), { 0: floats(1, 2, 3, 4) });

function writeIndex(folder: string, weight_map: unknown, name = "model.safetensors"): void {
  writeFileSync(join(folder, `${name}.index.json`), JSON.stringify({ metadata: {}, weight_map }));
}
const namesIn = (folder: string) => openWeightFiles(folder).flatMap((file) => file.names());

describe("the weights of a folder", () => {
  test("are its safetensors, one or in shards, before files of torch.save, one or in shards", () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, "pytorch_model-00001-of-00002.bin"), torchFile("bin.shard1"));
    writeFileSync(join(folder, "pytorch_model-00002-of-00002.bin"), torchFile("bin.shard2"));
    const shards = { "bin.shard1": "pytorch_model-00001-of-00002.bin", "bin.shard2": "pytorch_model-00002-of-00002.bin" };
    writeIndex(folder, shards, "pytorch_model.bin");
    writeFileSync(join(folder, "model.gguf"), "not read unless it is named");
    expect(namesIn(folder)).toEqual(["bin.shard1", "bin.shard2"]);
    writeFileSync(join(folder, "pytorch_model.bin"), torchFile("bin"));
    expect(namesIn(folder)).toEqual(["bin"]);
    writeTensors(join(folder, "model-a.safetensors"), new Map([["safe.a", one(1)]]));
    writeTensors(join(folder, "model-b.safetensors"), new Map([["safe.b", one(1)]]));
    writeIndex(folder, { "safe.b": "model-b.safetensors", "safe.a": "model-a.safetensors" });
    expect(namesIn(folder)).toEqual(["safe.b", "safe.a"]);
    writeTensors(join(folder, "model.safetensors"), new Map([["safe", one(1)]]));
    expect(namesIn(folder)).toEqual(["safe"]);
  });

  test("may be links, as in the cache of the hub", () => {
    const folder = temporaryFolder(),
      blobs = temporaryFolder();
    writeTensors(join(blobs, "0123abcd"), new Map([["a", one(1)]]));
    symlinkSync(join(blobs, "0123abcd"), join(folder, "shard.safetensors"));
    writeIndex(folder, { a: "shard.safetensors" });
    expect(namesIn(folder)).toEqual(["a"]);
  });
});

describe("a folder's weights are refused", () => {
  test.each<[string, unknown, RegExp]>([
    [
      "for a shard in another folder",
      { a: "../secret.safetensors" },
      /index\.json: "a" is said to be in "\.\.\/secret\.safetensors", expected the name of a file beside it$/,
    ],
    ["for a shard with an absolute path", { a: "/etc/passwd" }, /"a" is said to be in "\/etc\/passwd"/],
    ["for a shard with a Windows path", { a: "..\\x.safetensors" }, /"a" is said to be in/],
    ["for a shard that is the folder", { a: "." }, /"a" is said to be in "\."/],
    ["for a shard that is the parent", { a: ".." }, /"a" is said to be in "\.\."/],
    ["for a shard without name", { a: "" }, /"a" is said to be in ""/],
    ["for a shard that is a number", { a: 1 }, /"a" is said to be in 1, expected/],
    ["for an empty map", {}, /index\.json: has no "weight_map"$/],
    ["for a map that is a list", ["a"], /index\.json: has no "weight_map"$/],
    [
      "for a shard that is not there",
      { a: "a.safetensors", b: "b.safetensors" },
      /: 1 of 2 shards are missing, the first is b\.safetensors; download/,
    ],
    [
      "for a tensor that its shard lacks",
      { a: "a.safetensors", c: "a.safetensors" },
      /index\.json: "c" is said to be in a\.safetensors, which does not have it$/,
    ],
  ])("%s", (_what, weightMap, message) => {
    const folder = temporaryFolder();
    writeTensors(join(folder, "a.safetensors"), new Map([["a", one(1)]]));
    writeIndex(folder, weightMap);
    expect(failure(() => openWeightFiles(folder))).toMatchObject({
      name: "CheckpointError",
      code: "E_CHECKPOINT",
      message: expect.stringMatching(message),
    });
  });
});

describe("a model is refused", () => {
  const weights = (folder: string) => join(folder, "model.safetensors");
  const makeFolder = (path: string) => {
    rmSync(path);
    mkdirSync(path);
  };
  const replaceConfig = (text: string) => (folder: string) => writeFileSync(join(folder, "config.json"), text);
  test.each<[string, (folder: string) => void, RegExp]>([
    [
      "whose config.json is a Git LFS pointer",
      replaceConfig("version https://git-lfs.github.com/spec/v1\n"),
      /config\.json: is a Git LFS pointer.*git lfs pull/,
    ],
    [
      "whose config.json is a web page",
      replaceConfig("<html><body>Login</body></html>"),
      /config\.json: is a web page, not the file itself/,
    ],
    ["whose config.json is a folder", (folder) => makeFolder(join(folder, "config.json")), /config\.json: cannot be read as JSON: EISDIR/],
    ["whose config.json is null", replaceConfig("null"), /config\.json: expected a JSON object$/],
    [
      "whose weights are quantised",
      replaceConfig(JSON.stringify({ model_type: "llama", quantization_config: { quant_method: "gptq", bits: 4 } })),
      /config\.json: "quantization_config" says that the weights are quantised \("gptq"\), which tschat reads from \.gguf files only/,
    ],
    ["whose weights are a folder", (folder) => makeFolder(weights(folder)), /model\.safetensors: expected a file of weights/],
    [
      "whose index is no JSON",
      (folder) => {
        rmSync(weights(folder));
        writeFileSync(`${weights(folder)}.index.json`, "{");
      },
      /index\.json: cannot be read as JSON: /,
    ],
    [
      "whose weights are a damaged torch.save",
      (folder) => {
        rmSync(weights(folder));
        writeFileSync(join(folder, "pytorch_model.bin"), torchFile("a").subarray(0, 99));
      },
      /pytorch_model\.bin: truncated: the directory at the end of the zip archive is missing/,
    ],
    [
      "with a tensor in two shards of torch.save",
      (folder) => {
        rmSync(weights(folder));
        for (const name of ["a", "b"]) writeFileSync(join(folder, `${name}.bin`), torchFile("same", name));
        writeIndex(folder, { a: "a.bin", b: "b.bin", same: "a.bin" }, "pytorch_model.bin");
      },
      /: "(model\.)?same" is in .*a\.bin and in .*b\.bin$/,
    ],
  ])("%s", async (_what, damage, message) => {
    const folder = writeTinyModel(temporaryFolder(), { family: "llama" });
    damage(folder);
    expect(await rejection(() => openCheckpoint(folder))).toMatchObject({
      name: "CheckpointError",
      code: "E_CHECKPOINT",
      message: expect.stringMatching(message),
    });
  });

  test("whose weights are whole numbers, when they are read", async () => {
    const folder = temporaryFolder();
    copyFileSync(join(writeTinyModel(temporaryFolder(), { family: "llama" }), "config.json"), join(folder, "config.json"));
    writeFileSync(join(folder, "pytorch_model.bin"), archive(pickle("}", text("model.a"), tensorCall({ type: "IntStorage" }), "s")));
    const source = await openCheckpoint(folder);
    expect(source.dtype).toBeUndefined();
    expect(failure(() => source.read("model.a"))).toMatchObject({
      name: "CheckpointError",
      message: expect.stringMatching(
        /pytorch_model\.bin: "model\.a" is int32, expected floating-point weights; quantised models are read as/,
      ),
    });
  });
});
