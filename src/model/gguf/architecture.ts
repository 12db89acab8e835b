import { ConfigError } from "../../errors.ts";
import type { ModelConfig } from "../families/family.ts";
import type { GgufMetadata, GgufValue } from "./metadata.ts";
import type { ValueChange } from "./value-change.ts";

/** What a GGUF file says beside the keys that the tables name. */
export interface GgufFacts {
  metadata: GgufMetadata;
  /** Whether the file has a tensor, by its Hugging Face name. */
  has(name: string): boolean;
  /** Values of one of `sideTensors`, by its name in the file. */
  side(name: string): Float32Array | undefined;
}

/**
 * An architecture of llama.cpp: how its metadata and tensors correspond to `config.json` and tensors of a Hugging Face folder, in both
 * directions. Keys of metadata are without the architecture's name (`block_count` for `llama.block_count`). Where older `config.json`s
 * have another key, both are given as `new|old`: the first is written, the first that is there is read.
 */
export interface GgufArchitecture {
  /** `general.architecture` */
  name: string;
  /** `model_type`s that the architecture can hold; a file is read as the first. */
  modelTypes: readonly [string, ...string[]];
  /** `architectures` of `config.json`. */
  className: string;
  /** Whole numbers: key of the metadata -> key of `config.json`. */
  counts: Readonly<Record<string, string>>;
  /** Whole numbers that a file may lack. */
  optionalCounts?: Readonly<Record<string, string>>;
  /** Fractions: key of the metadata -> key of `config.json`. */
  fractions: Readonly<Record<string, string>>;
  /** What llama.cpp computes whatever the file says: key of `config.json` -> possible values. The first is what a file is read as. */
  fixed: Readonly<Record<string, readonly unknown[]>>;
  /** Tensors outside the layers: name in the file -> Hugging Face name. */
  tensors: Readonly<Record<string, string>>;
  /** What stands before a layer's number in Hugging Face's names: `model.layers`. */
  layerPrefix: string;
  /** Tensors of a layer without `.weight` or `.bias`: name in the file -> Hugging Face name. */
  layerTensors: Readonly<Record<string, string>>;
  /** Tensors that belong to the configuration, by their names in the file. */
  sideTensors?: readonly string[];
  /** llama.cpp wants a head of its own, also where it is the token table. */
  needsHead?: boolean;
  /** Second Hugging Face names of tensors of a layer -> the name in `layerTensors`. */
  aliases?: Readonly<Record<string, string>>;
  /** Whether a file's tensors have those second names, by the names that it has. */
  usesAliases?(has: (name: string) => boolean): boolean;
  /** Further keys of `config.json`; the tables go over them. */
  config(facts: GgufFacts): Record<string, unknown>;
  /** Further metadata. @throws {ConfigError} for a configuration that llama.cpp cannot compute */
  metadata(config: ModelConfig): Record<string, GgufValue>;
  /** The values of `sideTensors` that a configuration needs. */
  sideValues?(config: ModelConfig): ReadonlyMap<string, Float32Array>;
  /** How a tensor's values differ, by its Hugging Face name. */
  change?(name: string, config: ModelConfig): ValueChange | undefined;
}

/**
 * Hugging Face's name of a tensor of the file; undefined for one that the architecture does not have.
 * Example: `blk.0.attn_q.weight` of `llama` is `model.layers.0.self_attn.q_proj.weight`.
 *
 * @param isThere whether the file has a tensor of this name
 */
export function folderName(architecture: GgufArchitecture, name: string, isThere: (name: string) => boolean): string | undefined {
  const { tensors, layerTensors, layerPrefix, aliases = {} } = architecture;
  if (Object.hasOwn(tensors, name)) return tensors[name];
  const [, layer, part = "", ending] = /^blk\.(\d+)\.(\w+)\.(weight|bias)$/.exec(name) ?? [];
  const found = Object.hasOwn(layerTensors, part) ? layerTensors[part] : undefined;
  if (found === undefined) return undefined;
  const second = architecture.usesAliases?.(isThere) ? Object.keys(aliases).find((alias) => aliases[alias] === found) : undefined;
  return `${layerPrefix}.${layer}.${second ?? found}.${ending}`;
}

/** The file's name of a Hugging Face tensor; undefined for one that the architecture does not have. */
export function fileName(architecture: GgufArchitecture, name: string): string | undefined {
  const top = Object.entries(architecture.tensors).find(([, folder]) => folder === name);
  if (top) return top[0];
  const prefix = `${architecture.layerPrefix}.`;
  if (!name.startsWith(prefix)) return undefined;
  const [, layer, middle = "", ending] = /^(\d+)\.(.+)\.(weight|bias)$/.exec(name.slice(prefix.length)) ?? [];
  const first = architecture.aliases?.[middle] ?? middle;
  const part = Object.entries(architecture.layerTensors).find(([, folder]) => folder === first)?.[0];
  return part === undefined ? undefined : `blk.${layer}.${part}.${ending}`;
}

/** The value of `new|old` in a `config.json`; null counts as absent. */
export function configValue(config: ModelConfig, keys: string): unknown {
  return keys.split("|").map((key) => config[key]).find((value) => value !== undefined && value !== null);
}

/** A number of a `config.json` by `new|old`. @throws {ConfigError} where there is none and no `otherwise` */
export function configNumber(config: ModelConfig, keys: string, otherwise?: number): number {
  const value = configValue(config, keys) ?? otherwise;
  if (typeof value === "number") return value;
  throw new ConfigError(`config.json: "${keys.replace("|", '" or "')}": expected a number, found ${JSON.stringify(value) ?? "nothing"}`);
}
