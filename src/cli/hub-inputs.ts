import type { ConfigOf, Field, Fields } from "../config/fields.ts";
import { hubEnvironment } from "../hub/environment.ts";
import { hubIdOf } from "../hub/hub-id.ts";
import { fetchFromHub } from "../hub/resolve.ts";
import type { HubOptions } from "../hub/snapshot.ts";
import { showingDownloads } from "./download-progress.ts";

/**
 * Downloads the models and data sets that settings name by their ids on the hub. In the settings returned an id has the commit
 * that was found, so that a run says what it used and another one with its settings uses the same.
 *
 * @param made paths that do not exist yet because this run will make them; they may look like ids
 * @throws as `fetchFromHub`
 */
export async function fetchInputs<F extends Fields>(fields: F, config: ConfigOf<F>, made: readonly string[] = []): Promise<ConfigOf<F>> {
  const values: Record<string, unknown> = { ...config };
  const isId = (value: unknown): boolean => {
    const path = pathOf(value);
    return path !== undefined && !made.includes(path) && hubIdOf(path) !== undefined;
  };
  const named = Object.entries(fields).filter(([key, field]) => field.hub !== undefined && [values[key]].flat().some(isId));
  if (named.length === 0) return config;
  return showingDownloads(hubEnvironment(process.env).cacheFolder, async (options) => {
    for (const [key, field] of named) {
      const value = values[key];
      const fetched: unknown[] = [];
      for (const one of [value].flat()) fetched.push(await fetchInput(field, one, options));
      values[key] = Array.isArray(value) ? fetched : fetched[0];
    }
    return values as ConfigOf<F>;
  });
}

/** A path or id, or the one of an object that says more about it, as a source of data may. */
function pathOf(value: unknown): string | undefined {
  if (typeof value === "object" && value !== null && "path" in value) return pathOf(value.path);
  return typeof value === "string" ? value : undefined;
}

async function fetchInput({ hub }: Field, value: unknown, options: HubOptions): Promise<unknown> {
  const path = pathOf(value), id = path === undefined ? undefined : hubIdOf(path);
  if (id === undefined || hub === undefined) return value;
  const { pinned, paths } = await fetchFromHub(hub === "dataset" ? "dataset" : "model", id, options);
  const fetched = hub === "adapter" ? paths[0] : pinned; // an adapter is read by its path only; the path has the commit in it
  return typeof value === "string" ? fetched : { ...Object(value), path: fetched };
}
