import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/** Environment variables, such as `process.env`. */
export type Environment = Record<string, string | undefined>;

/** What the environment says about the hub, by the variables and defaults of Hugging Face's Python tools. */
export interface HubEnvironment {
  /** Without a slash at the end. */
  readonly endpoint: string;
  readonly cacheFolder: string;
  readonly token: string | undefined;
  /** What keeps the hub from being asked, as `HF_HUB_OFFLINE=1`; undefined when nothing does. */
  readonly offline: string | undefined;
  /** Milliseconds without a byte after which a connection counts as broken. */
  readonly timeout: number;
}

/** Reads `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HUB_OFFLINE` and their older names. */
export function hubEnvironment(env: Readonly<Environment>): HubEnvironment {
  const given = (...names: string[]): string | undefined => names.map((name) => env[name]?.trim()).find((value) => value);
  const path = (value: string): string => value.replace(/^~(?=\/|$)/, homedir());
  const home = path(given("HF_HOME") ?? join(given("XDG_CACHE_HOME") ?? join(homedir(), ".cache"), "huggingface"));
  const offline = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].find((name) => /^(1|on|yes|true)$/i.test(env[name] ?? ""));
  return {
    endpoint: (given("HF_ENDPOINT") ?? "https://huggingface.co").replace(/\/+$/, ""),
    cacheFolder: path(given("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE") ?? join(home, "hub")),
    token: given("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") ?? readToken(path(given("HF_TOKEN_PATH") ?? join(home, "token"))),
    offline: offline === undefined ? undefined : `${offline}=${env[offline]}`,
    timeout: 1000 * (Number(given("HF_HUB_DOWNLOAD_TIMEOUT")) || 30),
  };
}

/** The token that `hf auth login` keeps; undefined when there is none. */
function readToken(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim() || undefined;
  } catch (error) {
    if (["ENOENT", "ENOTDIR", "EACCES"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw error;
  }
}
