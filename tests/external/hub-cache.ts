// Compares tschat's hub cache with that of huggingface_hub for Python, on a local server that behaves like the hub:
//
//     node tests/external/hub-cache.ts PYTHON
//
// PYTHON has huggingface_hub. Each downloads the same model and data set and then reads the cache of the other one offline.
import { execFile } from "node:child_process";
import { lstatSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { promisify } from "node:util";
import { resolveDataset, resolveModel } from "../../src/hub/resolve.ts";
import { LocalHub } from "../hub/local-hub.ts";

const python = process.argv[2] ?? "python3";
const files = { "config.json": '{"model_type": "llama"}', "tokenizer.json": "{}", "model.safetensors": Buffer.alloc(300_000, 5) };
const data = { "README.md": "# data", "data/train-00000-of-00001.parquet": Buffer.alloc(100_000, 7) };
const hub = await LocalHub.start(
  { name: "org/tiny", files, large: ["model.safetensors"] },
  { name: "gpt2", files: { "config.json": "[]", "model.safetensors": "w" }, revisions: { "v1.0": "b".repeat(40) } },
  { kind: "dataset", name: "org/set", files: data, large: ["data/train-00000-of-00001.parquet"] },
);
const root = mkdtempSync(join(tmpdir(), "tschat-hub-cache-"));
const env = (home: string) => ({
  HF_HOME: join(root, home), HF_ENDPOINT: hub.endpoint, HF_HUB_DISABLE_XET: "1", HF_HUB_DISABLE_TELEMETRY: "1",
});

const script = `
from huggingface_hub import hf_hub_download, snapshot_download
print(snapshot_download("org/tiny"))
print(snapshot_download("gpt2", revision="v1.0"))
print(snapshot_download("org/set", repo_type="dataset"))
print(hf_hub_download("org/tiny", "model.safetensors"))
`;

async function runPython(variables: Record<string, string>): Promise<string[]> {
  const { stdout } = await promisify(execFile)(python, ["-c", script], { env: { PATH: process.env["PATH"], ...variables } });
  return stdout.trim().split("\n");
}

async function runOurs(variables: Record<string, string>): Promise<string[]> {
  const options = { env: variables };
  const tiny = await resolveModel("org/tiny", options);
  const [train = ""] = await resolveDataset("org/set", options);
  return [tiny, await resolveModel("gpt2@v1.0", options), train.replace(/\/data\/.*/, ""), join(tiny, "model.safetensors")];
}

/** Every file, link and reference of a cache, without locks and the mark for backup programs. */
function listing(home: string): string[] {
  const cache = join(root, home, "hub");
  const names = readdirSync(cache, { recursive: true, encoding: "utf8" }).filter((name) => !/^\.locks|CACHEDIR\.TAG/.test(name));
  return names.sort().map((name) => {
    const path = join(cache, name), status = lstatSync(path);
    if (status.isSymbolicLink()) return `${name} -> ${readlinkSync(path)}`;
    return status.isFile() ? `${name}: ${readFileSync(path).toString("base64")}` : `${name}/`;
  });
}

const relativeTo = (home: string, paths: readonly string[]): string => paths.map((path) => relative(join(root, home), path)).join("\n");
function check(what: string, one: string, other: string): void {
  if (one !== other) throw new Error(`${what}:\n${one}\n---\n${other}`);
  process.stdout.write(`ok: ${what}\n`);
}

try {
  const ours = relativeTo("ours", await runOurs(env("ours")));
  const theirs = relativeTo("theirs", await runPython(env("theirs")));
  check("both name the same paths", ours, theirs);
  check("both caches hold the same", listing("ours").join("\n"), listing("theirs").join("\n"));
  const offline = { HF_HUB_OFFLINE: "1" };
  const before = hub.requests.length;
  check("Python reads our cache offline", relativeTo("ours", await runPython({ ...env("ours"), ...offline })), ours);
  check("we read Python's cache offline", relativeTo("theirs", await runOurs({ ...env("theirs"), ...offline })), ours);
  check("and nothing is asked for", String(hub.requests.length), String(before));
} finally {
  await hub.stop();
  rmSync(root, { recursive: true });
}
