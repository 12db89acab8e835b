import { existsSync } from "node:fs";
import { formatHubId, parseHubId } from "../../hub/hub-id.ts";
import { resolveDataset } from "../../hub/resolve.ts";
import { dataFiles } from "../files/read.ts";
import { namedDataset } from "./named/registry.ts";

/**
 * What the hub calls the data of a source: `rm-static` is `Dahoas/rm-static:train`. Undefined for a path; what exists here is always one.
 *
 * @param part which split of a known data set is meant where none is named
 */
export function hubNameOf(path: string, part: "train" | "eval" = "train"): string | undefined {
  const id = existsSync(path) ? undefined : parseHubId(path);
  if (id === undefined) return undefined;
  const known = namedDataset(path);
  if (known === undefined) return path;
  const { splits, hub = known.id } = known;
  return formatHubId({ repo: hub, revision: id.revision, selector: id.selector ?? splits[part] ?? splits.train });
}

/**
 * The local files of a source, in order; a data set on the hub is downloaded if the cache does not hold it.
 *
 * @throws {ConfigError} as `dataFiles`; as `resolveDataset`
 */
export async function sourceFiles(path: string): Promise<readonly string[]> {
  const name = hubNameOf(path);
  return name === undefined ? dataFiles(path) : resolveDataset(name);
}
