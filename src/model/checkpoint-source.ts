import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { CheckpointError } from "../errors.ts";
import { parseHubId } from "../hub/hub-id.ts";
import { resolveModel } from "../hub/resolve.ts";
import type { DType } from "../native/binding.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { elementBytes, type WeightFile } from "../tensor/weight-file.ts";
import type { ModelConfig } from "./families/family.ts";
import { readJsonObject } from "./formats/json-file.ts";
import { observed } from "./formats/load-progress.ts";
import { openWeightFiles } from "./formats/weight-files.ts";
import { openGguf } from "./gguf/checkpoint.ts";

/** A pretrained model on disk, whatever its format: what a Hugging Face folder says, and its tensors by their names there. */
export interface CheckpointSource {
  /** The folder or file, for messages. */
  readonly path: string;
  readonly config: ModelConfig;
  readonly generationConfig: ModelConfig;
  /** Tokenizer and template files by name, copied beside a saved model so that the folder is complete. */
  readonly companions: ReadonlyMap<string, string>;
  /** What a saved folder has unless asked otherwise: the dtype of the largest tensors; undefined for quantised files. */
  readonly dtype: DType | undefined;
  names(): string[];
  shape(name: string): readonly number[];
  /** The tensor in its own dtype; it may be a view of the mapped file and must not be written to. */
  read(name: string): Tensor;
  /** Ends reading; tensors read before stay valid. */
  close(): void;
}

const companionNames = [
  "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "vocab.json", "merges.txt",
  "added_tokens.json",
];

/** What to give instead of a path that holds no model. */
const expectedModel = "give a Hugging Face folder (config.json, model.safetensors) or a .gguf file";

/**
 * Opens a folder or a `.gguf` file by its path, or by a name on the hub, whose repository is then the checkpoint's `path`.
 *
 * @throws {CheckpointError} when it is neither, or incomplete
 * @throws as `resolveModel`
 */
export async function openCheckpoint(pathOrId: string): Promise<CheckpointSource> {
  const path = await resolveModel(pathOrId);
  const source = await openLocalCheckpoint(path);
  return path === pathOrId ? source : { ...source, path: parseHubId(pathOrId)?.repo ?? path };
}

/**
 * Opens a Hugging Face folder (`config.json` with safetensors or, where it has none, `pytorch_model.bin`) or a `.gguf` file. Inside of
 * `observeLoading` the source reports what is read of it.
 *
 * @throws {CheckpointError} when it is neither, or incomplete
 */
async function openLocalCheckpoint(path: string): Promise<CheckpointSource> {
  if (!existsSync(path)) throw new CheckpointError(`${path}: no such folder or file; ${expectedModel}`);
  if (statSync(path).isDirectory()) return openFolder(path);
  if (path.endsWith(".gguf")) return openGgufSource(path);
  throw new CheckpointError(`${path}: a file that is no .gguf; ${expectedModel}`);
}

/** Of weights; masks and the like may be whole numbers. */
const floatDtypes: readonly DType[] = ["float32", "bfloat16", "float16", "float64"];

function openFolder(path: string): CheckpointSource {
  const configFile = join(path, "config.json");
  if (!existsSync(configFile)) {
    throw new CheckpointError(`${path}: has no config.json; a Hugging Face model folder has one beside its weights`);
  }
  const config = readJsonObject(configFile);
  checkUnquantised(configFile, config);
  const files = openWeightFiles(path);
  const owners = new Map<string, WeightFile>();
  for (const file of files) {
    for (const name of file.names()) {
      const other = owners.get(name);
      if (other) throw new CheckpointError(`${path}: "${name}" is in ${other.path} and in ${file.path}`);
      owners.set(name, file);
    }
  }
  const owner = (name: string): WeightFile => {
    const file = owners.get(name);
    if (!file) throw new CheckpointError(`${path}: no tensor "${name}"`);
    return file;
  };
  const shape = (name: string) => owner(name).shape(name);
  const dtype = (name: string) => owner(name).dtype(name);
  const generationFile = join(path, "generation_config.json");
  const presentNames = companionNames.filter((name) => existsSync(join(path, name)));
  const largest = [...owners.keys()].filter((name) => floatDtypes.includes(dtype(name))).reduce<string | undefined>(
    (best, name) => (best === undefined || count(shape(name)) > count(shape(best)) ? name : best), undefined,
  );
  const source: CheckpointSource = {
    path,
    config,
    generationConfig: existsSync(generationFile) ? readJsonObject(generationFile) : {},
    companions: new Map(presentNames.map((name) => [name, readFileSync(join(path, name), "utf8")])),
    dtype: largest === undefined ? undefined : dtype(largest),
    names: () => [...owners.keys()],
    shape,
    read: (name) => {
      if (floatDtypes.includes(dtype(name))) return owner(name).read(name);
      throw new CheckpointError(
        `${owner(name).path}: "${name}" is ${dtype(name)}, expected floating-point weights; ` +
          "quantised models are read as .gguf files only",
      );
    },
    close: () => {}, // a mapping ends with the last tensor that looks into it
  };
  return observed(source, (name) => count(shape(name)) * elementBytes[dtype(name)]);
}

/** Number of elements. */
function count(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** Packed weights have other names and shapes than the model; this says why before they are compared. */
function checkUnquantised(configFile: string, { quantization_config: quantization }: ModelConfig): void {
  if (quantization === undefined || quantization === null) return;
  const method = JSON.stringify((quantization as { quant_method?: unknown }).quant_method) ?? "of an unnamed kind";
  throw new CheckpointError(
    `${configFile}: "quantization_config" says that the weights are quantised (${method}), which tschat reads from .gguf files only; ` +
      "choose the model's version in bfloat16 or float16, or a .gguf file",
  );
}

function openGgufSource(path: string): CheckpointSource {
  const gguf = openGguf(path);
  const companions = new Map<string, string>();
  if (gguf.tokenizer !== undefined) {
    const { tokenizerJson, config, chatTemplate } = gguf.tokenizer;
    companions.set("tokenizer.json", tokenizerJson).set("tokenizer_config.json", JSON.stringify(config, null, 2));
    if (chatTemplate !== undefined) companions.set("chat_template.jinja", chatTemplate);
  }
  const source: CheckpointSource = {
    path,
    config: gguf.config,
    generationConfig: gguf.generationConfig,
    companions,
    dtype: gguf.dtype,
    names: () => gguf.names(),
    shape: (name) => gguf.shape(name),
    read: (name) => gguf.read(name),
    close: () => {}, // as above
  };
  const elements = gguf.names().reduce((sum, name) => sum + count(gguf.shape(name)), 0);
  const elementSize = statSync(path).size / Math.max(elements, 1); // a mean: how many bits one takes depends on its tensor
  return observed(source, (name) => count(gguf.shape(name)) * elementSize);
}
