import { existsSync } from "node:fs";
import { join } from "node:path";
import { CheckpointError } from "../../errors.ts";
import { SafetensorsFile } from "../../tensor/safetensors.ts";
import type { WeightFile } from "../../tensor/weight-file.ts";
import { readJsonObject } from "./json-file.ts";
import { TorchFile } from "./torch-file.ts";

/** The formats of a folder's weights by the name of a single file, the better one first. */
const formats: readonly { name: string; open: (path: string) => WeightFile }[] = [
  { name: "model.safetensors", open: (path) => new SafetensorsFile(path) },
  { name: "pytorch_model.bin", open: (path) => new TorchFile(path) },
];

/**
 * The files with the weights of a Hugging Face folder: safetensors where it has any, else what torch.save wrote; one file, or the shards
 * that the index beside them lists.
 *
 * @throws {CheckpointError} when there are none, a shard is missing or holds other tensors than the index says, or one is damaged
 */
export function openWeightFiles(folder: string): WeightFile[] {
  for (const { name, open } of formats) {
    const single = join(folder, name), index = `${single}.index.json`;
    if (existsSync(single)) return [open(single)];
    if (existsSync(index)) return openShards(folder, index, open);
  }
  throw new CheckpointError(
    `${folder}: has no weights: expected ${formats.map(({ name }) => name).join(" or ")}, or shards with ${formats[0]?.name}.index.json`,
  );
}

function openShards(folder: string, index: string, open: (path: string) => WeightFile): WeightFile[] {
  const map = readJsonObject(index).weight_map;
  if (typeof map !== "object" || map === null || Array.isArray(map) || Object.keys(map).length === 0) {
    throw new CheckpointError(`${index}: has no "weight_map"`);
  }
  const namesOf = new Map<string, string[]>();
  for (const [name, shard] of Object.entries(map)) {
    // A plain name: with a path in it the index could have any file of this machine read.
    if (typeof shard !== "string" || shard === "" || /[/\\\0]|^\.\.?$/.test(shard)) {
      throw new CheckpointError(`${index}: "${name}" is said to be in ${JSON.stringify(shard)}, expected the name of a file beside it`);
    }
    const names = namesOf.get(shard);
    if (names) names.push(name);
    else namesOf.set(shard, [name]);
  }
  const missing = [...namesOf.keys()].filter((shard) => !existsSync(join(folder, shard)));
  if (missing.length > 0) {
    throw new CheckpointError(
      `${folder}: ${missing.length} of ${namesOf.size} shards are missing, the first is ${missing[0]}; download the model again`,
    );
  }
  return [...namesOf].map(([shard, names]) => {
    const file = open(join(folder, shard)), found = new Set(file.names());
    const lost = names.find((name) => !found.has(name));
    if (lost !== undefined) throw new CheckpointError(`${index}: "${lost}" is said to be in ${shard}, which does not have it`);
    return file;
  });
}
