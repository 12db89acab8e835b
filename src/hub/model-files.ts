import { ConfigError } from "../errors.ts";

/** The files beside the weights that training, generation and a saved model need. */
const smallFiles = new Set([
  "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
  "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model", "chat_template.jinja", "chat_template.json",
  "adapter_config.json",
]);

/** Weights in the order of preference; an index names the shards. One of each group is taken. */
const weightFiles = ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];
const adapterFiles = ["adapter_model.safetensors", "adapter_model.bin"];

/** The first of the weights or their index that the repository has. */
export function weightFileOf(names: readonly string[]): string | undefined {
  return weightFiles.find((name) => names.includes(name));
}

/**
 * What to download of a model: configuration, tokenizer, and the weights in one format.
 *
 * @param index the text of the index, where `weightFileOf` names one
 * @throws {ConfigError} for a repository without weights that can be read, saying what it has instead
 */
export function modelFiles(repo: string, names: readonly string[], index?: string): string[] {
  const small = names.filter((name) => smallFiles.has(name));
  const adapter = adapterFiles.filter((name) => names.includes(name)).slice(0, 1);
  const weights = weightFileOf(names);
  if (weights === undefined && adapter.length === 0) throw new ConfigError(`${repo}: ${withoutWeights(repo, names)}`);
  const shards = weights === undefined || index === undefined ? [] : shardsOf(repo, weights, index, names);
  return [...small, ...(weights === undefined ? [] : [weights]), ...shards, ...adapter];
}

function shardsOf(repo: string, indexName: string, index: string, names: readonly string[]): string[] {
  let map: unknown;
  try {
    map = (JSON.parse(index) as { weight_map?: unknown }).weight_map;
  } catch (cause) {
    throw new ConfigError(`${repo}: ${indexName} is not valid JSON; choose another revision or repository`, { cause });
  }
  const shards = [...new Set(Object.values(map ?? {}).map(String))];
  const missing = shards.filter((name) => !names.includes(name));
  if (missing.length > 0) throw new ConfigError(`${repo}: ${indexName} names ${missing[0]}, which is not there; its upload is incomplete`);
  if (shards.length === 0) throw new ConfigError(`${repo}: ${indexName} names no files; its upload is incomplete`);
  return shards;
}

function withoutWeights(repo: string, names: readonly string[]): string {
  const ggufs = ggufFiles(names);
  if (ggufs.length > 0) return `has .gguf files only: name one, as ${repo}:${ggufs[0]}; there are ${ggufs.join(", ")}`;
  const others = names.filter((name) => /\.(h5|msgpack|onnx|ckpt|pt|pth|bin|safetensors)$/.test(name));
  const found = others.length > 0 ? `, but ${others.slice(0, 5).join(", ")}` : "";
  return `has no model.safetensors, pytorch_model.bin or adapter_model.safetensors${found}; choose another repository`;
}

function ggufFiles(names: readonly string[]): string[] {
  return names.filter((name) => name.endsWith(".gguf"));
}

/**
 * The `.gguf` file that a selector names: its name, or a part of it that no other has, such as `Q4_K_M`.
 *
 * @throws {ConfigError} when none or several match
 */
export function ggufFile(repo: string, names: readonly string[], selector: string): string {
  if (names.includes(selector) && selector.endsWith(".gguf")) return selector;
  const all = ggufFiles(names);
  const matching = all.filter((name) => name.toLowerCase().includes(selector.toLowerCase()));
  if (matching.length === 1 && matching[0] !== undefined) return matching[0];
  const found = matching.length > 1 ? `several .gguf files match: ${matching.join(", ")}`
    : all.length > 0 ? `no .gguf file matches; there are ${all.join(", ")}` : "it has no .gguf files";
  throw new ConfigError(`${repo}:${selector}: ${found}`);
}
