import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { DType } from "../../native/binding.ts";
import { type TensorToWrite, writeSafetensors } from "../../tensor/safetensors.ts";
import { elementBytes } from "../../tensor/weight-file.ts";
import type { ModelConfig } from "../families/family.ts";
import { bothSpellings, configText } from "./config-spelling.ts";

/** Bytes of a file from which on transformers 4 splits a model, and what the hub likes. */
const DEFAULT_SHARD_BYTES = 5e9;

/** A model as a Hugging Face folder holds it. */
export interface FolderContent {
  /** `config.json`, without dtype. */
  readonly config: ModelConfig;
  readonly generationConfig: ModelConfig;
  /** Text files by name. */
  readonly companions: ReadonlyMap<string, string>;
  readonly tensors: readonly TensorToWrite[];
  /** Of all tensors. */
  readonly dtype: DType;
  /** Bytes of tensors in one file, default 5 GB; a larger tensor has a file of its own. */
  readonly maxShardSize?: number | undefined;
}

/**
 * Writes a self-contained Hugging Face folder, which is made if need be: what transformers 4 and 5 load. Weights are written aside and
 * renamed, since the model may be one that is mapped from this very folder; shards of an earlier save are removed.
 *
 * @throws {RangeError} for a shard size that is not above 0
 */
export function writeModelFolder(dir: string, content: FolderContent): void {
  const { dtype, tensors, maxShardSize = DEFAULT_SHARD_BYTES } = content;
  if (!(maxShardSize > 0)) throw new RangeError(`maxShardSize: expected a number of bytes above 0, found ${maxShardSize}`);
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, "config.json"), configText(bothSpellings({ ...content.config, dtype })));
  writeFileSync(join(dir, "generation_config.json"), configText(content.generationConfig));
  for (const [name, text] of content.companions) writeFileSync(join(dir, name), text);

  const shards = splitTensors(tensors, dtype, maxShardSize);
  const files = new Map(shards.map((shard, i) => [shardName(i, shards.length), shard]));
  const aside = (name: string) => join(dir, `${name}.part`);
  for (const [name, shard] of files) writeSafetensors(aside(name), shard, dtype);
  const written = [...files.keys()];
  if (shards.length > 1) {
    const total_size = tensors.reduce((sum, tensor) => sum + byteLength(tensor, dtype), 0);
    const weight_map = Object.fromEntries([...files].flatMap(([file, shard]) => shard.map(({ name }) => [name, file])));
    writeFileSync(aside(INDEX), `${JSON.stringify({ metadata: { total_size }, weight_map }, null, 2)}\n`);
    written.push(INDEX); // the last one: only with it do new shards count
  }
  for (const name of written) renameSync(aside(name), join(dir, name));
  for (const name of readdirSync(dir)) {
    if (isWeightFile(name) && !written.includes(name)) rmSync(join(dir, name));
  }
}

const INDEX = "model.safetensors.index.json";

function isWeightFile(name: string): boolean {
  return name === INDEX || name === "model.safetensors" || /^model-\d{5}-of-\d{5}\.safetensors$/.test(name);
}

function shardName(index: number, total: number): string {
  const padded = (n: number) => String(n).padStart(5, "0");
  return total === 1 ? "model.safetensors" : `model-${padded(index + 1)}-of-${padded(total)}.safetensors`;
}

/** Fills file after file in the order of the tensors, as transformers does. */
function splitTensors(tensors: readonly TensorToWrite[], dtype: DType, maxBytes: number): TensorToWrite[][] {
  let shard: TensorToWrite[] = [], shardBytes = 0;
  const shards = [shard];
  for (const tensor of tensors) {
    const bytes = byteLength(tensor, dtype);
    if (shard.length > 0 && shardBytes + bytes > maxBytes) {
      shard = [];
      shardBytes = 0;
      shards.push(shard);
    }
    shard.push(tensor);
    shardBytes += bytes;
  }
  return shards;
}

function byteLength({ shape }: TensorToWrite, dtype: DType): number {
  return shape.reduce((product, size) => product * size, elementBytes[dtype]);
}
