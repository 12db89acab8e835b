import { readFile } from "node:fs/promises";
import { ConfigError } from "../errors.ts";
import { chooseDataFiles, dataFilesOf, isConverted } from "./dataset-files.ts";
import { formatHubId, type HubId, hubIdOf, type RepoKind } from "./hub-id.ts";
import { ggufFile, modelFiles, weightFileOf } from "./model-files.ts";
import { openSnapshot } from "./open-snapshot.ts";
import type { HubOptions, Snapshot } from "./snapshot.ts";

/** What a hub id stands for on this machine. */
export interface Resolved {
  /** The id with the commit hash in place of a branch or tag: the same files for ever. */
  readonly pinned: string;
  /** Of a model one folder or `.gguf` file, of a data set its files. */
  readonly paths: readonly string[];
}

/**
 * The local folder (or `.gguf` file) of a model. A path is returned as it is, whether it exists or not; a hub id,
 * `org/name[@revision][:file.gguf]`, is downloaded into the cache that Hugging Face's tools share.
 *
 * @throws {ConfigError} when it is no local path and the hub has no such model, gives no access, or it holds no weights
 * @throws {HubError} when the hub cannot be reached, fails or sends wrong bytes, and the cache does not hold the model
 */
export async function resolveModel(pathOrId: string, options: HubOptions = {}): Promise<string> {
  const id = hubIdOf(pathOrId);
  return id === undefined ? pathOrId : ((await fetchFromHub("model", id, options)).paths[0] ?? pathOrId);
}

/**
 * The local files of a data set, one split of it: `org/name[@revision][:split]`, `:config/split`, `:file`, `:folder` or
 * `:folder/split`. A path is returned as it is.
 *
 * @throws as `resolveModel`, and {ConfigError} for a split that there is not, naming those that there are
 */
export async function resolveDataset(pathOrId: string, options: HubOptions = {}): Promise<readonly string[]> {
  const id = hubIdOf(pathOrId);
  return id === undefined ? [pathOrId] : (await fetchFromHub("dataset", id, options)).paths;
}

/** Brings what an id names into the cache. @throws as `resolveModel` and `resolveDataset` */
export async function fetchFromHub(kind: RepoKind, id: HubId, options: HubOptions = {}): Promise<Resolved> {
  const snapshot = await openSnapshot(kind, id, options);
  return kind === "model" ? fetchModel(snapshot, options) : fetchDataset(snapshot, options);
}

async function fetchModel(snapshot: Snapshot, options: HubOptions): Promise<Resolved> {
  const { id: { repo, selector }, names } = snapshot;
  const pinned = formatHubId(snapshot.pinnedId);
  if (selector !== undefined) return { pinned, paths: await snapshot.fetch([ggufFile(repo, names, selector)], options) };
  const weights = weightFileOf(names);
  const index = weights?.endsWith(".index.json") ? await readText(snapshot, weights, options) : undefined;
  await snapshot.fetch(modelFiles(repo, names, index), options);
  return { pinned, paths: [snapshot.folder] };
}

/** The branch on which the hub keeps every data set that it can read as Parquet files. */
const convertedBranch = "refs/convert/parquet";

async function fetchDataset(snapshot: Snapshot, options: HubOptions): Promise<Resolved> {
  const { id, names } = snapshot;
  if (dataFilesOf(names).length === 0 && id.revision !== convertedBranch) return fetchConverted(snapshot, options);
  const card = names.includes("README.md") ? await readText(snapshot, "README.md", options) : undefined;
  const files = chooseDataFiles(id.repo, names, { card, selector: id.selector });
  if (isConverted(names) && files.some((name) => name.includes("/partial-"))) {
    options.onNote?.(`${id.repo}: the hub has converted only the beginning of this data set to Parquet`);
  }
  return { pinned: formatHubId(snapshot.pinnedId), paths: await snapshot.fetch(files, options) };
}

/** For a set that is made by a script, which is never run, or lies in archives. */
async function fetchConverted(snapshot: Snapshot, options: HubOptions): Promise<Resolved> {
  const { id, names } = snapshot;
  const script = names.find((name) => /^[^/]+\.py$/.test(name));
  const reason = script === undefined
    ? `has no data files that can be read (it has ${names.slice(0, 5).join(", ")})`
    : `is made by a script (${script}), and scripts are never run`;
  let converted: Snapshot;
  try {
    converted = await openSnapshot("dataset", { ...id, revision: convertedBranch }, options);
  } catch (cause) {
    const problem = cause instanceof Error ? cause.message : String(cause);
    throw new ConfigError(
      `${id.repo}: ${reason}, and its Parquet conversion is not to be had (${problem}); ` +
        "download and convert it by hand, and give the files", { cause },
    );
  }
  options.onNote?.(`${id.repo}: ${reason}; its Parquet conversion is taken (${convertedBranch})`);
  return fetchDataset(converted, options);
}

async function readText(snapshot: Snapshot, name: string, options: HubOptions): Promise<string> {
  const [path] = await snapshot.fetch([name], { ...options, onProgress: undefined }); // too small to be shown
  return readFile(path ?? name, "utf8");
}
