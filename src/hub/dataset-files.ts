import { parse } from "yaml";
import { ConfigError } from "../errors.ts";
import { filesMatching, type Splits, splitsOfNames } from "./splits.ts";

/** Formats that tschat reads, by the ends of file names; the first wins where a split lies there in several. */
const formats: readonly RegExp[] = [
  /\.parquet$/i, /\.arrow$/i, /\.(jsonl|ndjson)(\.gz|\.zst)?$/i, /\.json(\.gz|\.zst)?$/i, /\.(csv|tsv)(\.gz|\.zst)?$/i,
];
/** Descriptions of a data set, which are no data. */
const descriptions = new Set(["config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"]);

/** The data files of a repository. */
export function dataFilesOf(names: readonly string[]): string[] {
  return names.filter((name) => {
    const parts = name.split("/");
    const isHidden = parts.some((part) => part.startsWith(".") || part.startsWith("__"));
    return !isHidden && !descriptions.has(parts.at(-1) ?? "") && formats.some((format) => format.test(name));
  });
}

/** Whether these are the files of the hub's own Parquet conversion: `<config>/<split>/0000.parquet`. */
export function isConverted(names: readonly string[]): boolean {
  const files = dataFilesOf(names);
  return files.length > 0 && files.every((name) => /^[^/]+\/[^/]+\/\d{4}\.parquet$/.test(name));
}

/** What tells the files of a data set apart. */
export interface DataChoice {
  /** The text of README.md, whose header may name configurations. */
  readonly card: string | undefined;
  /** `split`, `config`, `config/split`, a file, a folder or `folder/split`; split train of the default configuration when undefined. */
  readonly selector: string | undefined;
}

/**
 * The files of one split.
 *
 * @throws {ConfigError} when the selector names nothing, or it takes one to choose; lists what there is
 */
export function chooseDataFiles(repo: string, names: readonly string[], { card, selector }: DataChoice): string[] {
  const files = dataFilesOf(names);
  if (selector !== undefined && files.includes(selector)) return [selector];
  const configs = new Map([...configsOf(repo, files, card)].map(([name, splits]) => [name, inOneFormat(splits)]));
  const found = selector === undefined ? defaultOf(repo, configs)
    : (inConfigs(repo, configs, selector) ?? inFolders(repo, files, selector));
  if (found !== undefined) return [...found];
  throw new ConfigError(`${repo}: has no ${selector}; ${choices(repo, configs)}`);
}

type Configs = ReadonlyMap<string, Splits>;

/** The configuration that needs no name. */
const defaultName = "default";

function configsOf(repo: string, files: readonly string[], card: string | undefined): Configs {
  if (isConverted(files)) return convertedConfigs(files);
  const declared = declaredConfigs(repo, files, card);
  return declared.size > 0 ? declared : new Map([[defaultName, splitsOfNames(files)]]);
}

function convertedConfigs(files: readonly string[]): Configs {
  const configs = new Map<string, Map<string, string[]>>();
  for (const file of files) {
    const [config = "", folder = ""] = file.split("/");
    const splits = configs.get(config) ?? new Map<string, string[]>();
    const split = folder.replace(/^partial-/, "");
    configs.set(config, splits.set(split, [...(splits.get(split) ?? []), file]));
  }
  return configs;
}

interface DeclaredConfig {
  readonly config_name?: unknown;
  readonly data_dir?: unknown;
  readonly data_files?: unknown;
  readonly default?: unknown;
}

/** The configurations in the header of README.md; the default one, if it says which, under the name `default` too. */
function declaredConfigs(repo: string, files: readonly string[], card: string | undefined): Configs {
  const header = /^---\r?\n([\s\S]*?)\r?\n---/.exec(card ?? "")?.[1];
  const configs = new Map<string, Splits>();
  if (header === undefined) return configs;
  let declared: unknown;
  try {
    declared = (parse(header) as { configs?: unknown } | null)?.configs;
  } catch (cause) {
    throw new ConfigError(`${repo}: the header of its README.md is not valid YAML; name a file of it: ${repo}:${files[0]}`, { cause });
  }
  for (const config of (Array.isArray(declared) ? declared : []) as DeclaredConfig[]) {
    const folder = typeof config.data_dir === "string" ? `${config.data_dir.replace(/\/+$/, "")}/` : "";
    const inside = files.filter((file) => file.startsWith(folder)).map((file) => file.slice(folder.length));
    const splits = config.data_files === undefined ? splitsOfNames(inside) : declaredSplits(inside, config.data_files);
    const whole = new Map([...splits].map(([split, some]) => [split, some.map((file) => folder + file)]));
    configs.set(typeof config.config_name === "string" ? config.config_name : defaultName, whole);
    if (config.default === true && !configs.has(defaultName)) configs.set(defaultName, whole);
  }
  return configs;
}

/** `data_files` is a pattern, a list of patterns (both mean train), or a list of `{ split, path }`. */
function declaredSplits(files: readonly string[], declared: unknown): Splits {
  const splits = new Map<string, string[]>();
  for (const entry of [declared].flat() as unknown[]) {
    const { split, path } = typeof entry === "string" ? { split: "train", path: entry } : (entry as { split?: unknown; path?: unknown });
    const matching = [path].flat().flatMap((pattern) => filesMatching(files, String(pattern)));
    splits.set(String(split), [...new Set([...(splits.get(String(split)) ?? []), ...matching])]);
  }
  return splits;
}

/** A repository may hold the same records in two formats; the one with more files is meant. */
function inOneFormat(splits: Splits): Splits {
  const all = [...splits.values()].flat();
  const count = (format: RegExp): number => all.filter((file) => format.test(file)).length;
  const most = Math.max(...formats.map(count));
  const format = formats.find((one) => count(one) === most);
  const kept = [...splits].map(([split, some]) => [split, some.filter((file) => format?.test(file))] as const);
  return new Map(kept.filter(([, some]) => some.length > 0));
}

function defaultOf(repo: string, configs: Configs): readonly string[] {
  const splits = configs.get(defaultName) ?? (configs.size === 1 ? [...configs.values()][0] : undefined);
  if (splits === undefined) throw new ConfigError(`${repo}: has several configurations; name one: ${choices(repo, configs)}`);
  return trainOf(repo, splits, configs);
}

function trainOf(repo: string, splits: Splits, configs: Configs): readonly string[] {
  const train = splits.get("train");
  if (train !== undefined) return train;
  throw new ConfigError(`${repo}: has no split train; ${choices(repo, configs)}`);
}

function inConfigs(repo: string, configs: Configs, selector: string): readonly string[] | undefined {
  const only = configs.get(defaultName) ?? (configs.size === 1 ? [...configs.values()][0] : undefined);
  const split = only?.get(selector);
  if (split !== undefined) return split;
  const config = configs.get(selector);
  if (config !== undefined) return trainOf(repo, config, configs);
  const slash = selector.lastIndexOf("/");
  return slash === -1 ? undefined : configs.get(selector.slice(0, slash))?.get(selector.slice(slash + 1));
}

/** `folder`, whose train split is meant, or `folder/split`. */
function inFolders(repo: string, files: readonly string[], selector: string): readonly string[] | undefined {
  const inside = (folder: string): Configs => {
    const names = files.filter((file) => file.startsWith(`${folder}/`)).map((file) => file.slice(folder.length + 1));
    const splits = new Map([...splitsOfNames(names)].map(([split, some]) => [split, some.map((file) => `${folder}/${file}`)]));
    return new Map([[folder, inOneFormat(splits)]]);
  };
  const plain = selector.replace(/\/+$/, "");
  const configs = inside(plain), splits = configs.get(plain);
  if (splits !== undefined && splits.size > 0) return trainOf(repo, splits, configs);
  const slash = plain.lastIndexOf("/");
  return slash === -1 ? undefined : inside(plain.slice(0, slash)).get(plain.slice(0, slash))?.get(plain.slice(slash + 1));
}

/** `there are org/name:train, org/name:test`. */
function choices(repo: string, configs: Configs): string {
  const all = [...configs].flatMap(([config, splits]) =>
    [...splits.keys()].map((split) => `${repo}:${config === defaultName ? "" : `${config}/`}${split}`));
  if (all.length === 0) return "it has no data files that can be read";
  return `there are ${all.slice(0, 12).join(", ")}${all.length > 12 ? ` and ${all.length - 12} more` : ""}`;
}
