import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { CheckpointError } from "../errors.ts";
import type { DType } from "../native/binding.ts";
import { SafetensorsFile } from "../tensor/safetensors.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { ModelConfig } from "./families/family.ts";
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
 * Opens a Hugging Face folder (`config.json` with one or several `.safetensors`) or a `.gguf` file.
 *
 * @throws {CheckpointError} when it is neither, or incomplete; pickled weights (`.bin`) are never opened
 */
export async function openCheckpoint(path: string): Promise<CheckpointSource> {
  if (!existsSync(path)) throw new CheckpointError(`${path}: no such folder or file; ${expectedModel}`);
  if (statSync(path).isDirectory()) return openFolder(path);
  if (path.endsWith(".gguf")) return openGgufSource(path);
  throw new CheckpointError(`${path}: a file that is no .gguf; ${expectedModel}`);
}

/** Parses a JSON file that must hold an object. */
function readJsonObject(path: string): ModelConfig {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, "utf8"));
  } catch (cause) {
    throw new CheckpointError(`${path}: cannot be read as JSON: ${(cause as Error).message}`, { cause });
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as ModelConfig;
  throw new CheckpointError(`${path}: expected a JSON object`);
}

function openFolder(path: string): CheckpointSource {
  const configFile = join(path, "config.json");
  if (!existsSync(configFile)) {
    throw new CheckpointError(`${path}: has no config.json; a Hugging Face model folder has one beside its weights`);
  }
  const files = weightFiles(path).map((file) => new SafetensorsFile(join(path, file)));
  const owners = new Map<string, SafetensorsFile>();
  for (const file of files) {
    for (const name of file.names()) {
      const other = owners.get(name);
      if (other) throw new CheckpointError(`${path}: "${name}" is in ${other.path} and in ${file.path}`);
      owners.set(name, file);
    }
  }
  const owner = (name: string): SafetensorsFile => {
    const stored = owners.get(name);
    if (!stored) throw new CheckpointError(`${path}: no tensor "${name}"`);
    return stored;
  };
  const shape = (name: string): number[] => owner(name).shape(name);
  const generationFile = join(path, "generation_config.json");
  const presentNames = companionNames.filter((name) => existsSync(join(path, name)));
  const largest = [...owners.keys()].reduce<string | undefined>((best, name) => {
    const size = (candidate: string) => shape(candidate).reduce((product, n) => product * n, 1);
    return best === undefined || size(name) > size(best) ? name : best;
  }, undefined);
  return {
    path,
    config: readJsonObject(configFile),
    generationConfig: existsSync(generationFile) ? readJsonObject(generationFile) : {},
    companions: new Map(presentNames.map((name) => [name, readFileSync(join(path, name), "utf8")])),
    dtype: largest === undefined ? undefined : owner(largest).dtype(largest),
    names: () => [...owners.keys()],
    shape,
    read: (name) => owner(name).read(name),
    close: () => {}, // a mapping ends with the last tensor that looks into it
  };
}

function weightFiles(path: string): string[] {
  if (existsSync(join(path, "model.safetensors"))) return ["model.safetensors"];
  const indexFile = join(path, "model.safetensors.index.json");
  if (existsSync(indexFile)) {
    const map = readJsonObject(indexFile).weight_map;
    if (typeof map !== "object" || map === null) throw new CheckpointError(`${indexFile}: has no "weight_map"`);
    const files = [...new Set(Object.values(map).map(String))];
    const missing = files.filter((file) => !existsSync(join(path, file)));
    if (missing.length > 0) {
      throw new CheckpointError(
        `${path}: ${missing.length} of ${files.length} shards are missing, the first is ${missing[0]}; download the model again`,
      );
    }
    return files;
  }
  const pickled = existsSync(join(path, "pytorch_model.bin")) || existsSync(join(path, "pytorch_model.bin.index.json"));
  throw new CheckpointError(
    pickled
      ? `${path}: has pickled weights only (pytorch_model.bin), which can run code when opened and are never loaded; ` +
          "convert them to safetensors"
      : `${path}: has no model.safetensors (nor model.safetensors.index.json with shards)`,
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
  return {
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
}
