import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** The package's folder: a clone, or node_modules/tschat. */
export const ROOT = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");

/**
 * The folder for what is downloaded once and shared by all clones: `TSCHAT_CACHE`, else `$XDG_CACHE_HOME/tschat`, else `~/.cache/tschat`.
 *
 * @param {NodeJS.ProcessEnv} env
 */
export function cacheFolder(env) {
  if (env.TSCHAT_CACHE) return resolve(env.TSCHAT_CACHE);
  return env.XDG_CACHE_HOME ? join(env.XDG_CACHE_HOME, "tschat") : join(homedir(), ".cache", "tschat");
}
