import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { flagOf } from "../../src/config/names.ts";
import type { Flags } from "../../src/config/resolve.ts";
import { ConfigError } from "../../src/errors.ts";
import type { GenerationWorkload } from "./generation-run.ts";
import { runForJson } from "./json-process.ts";

/** Another engine on the same workload. */
export interface Peer {
  /** Prefix of its columns. */
  name: "llama" | "hf";
  /** One run in a process of its own: tokens per second. */
  run(workload: GenerationWorkload): Promise<PeerRates>;
}

/** Tokens per second. */
export interface PeerRates {
  prefill: number;
  decode: number;
}

/** The settings that choose peers. */
export interface PeerConfig {
  readonly model: string;
  readonly peers: string | undefined;
  readonly against: readonly ("llama.cpp" | "hf")[];
  readonly peerGguf: string | undefined;
}

/**
 * The peers that the flags name, none without `--peers`.
 *
 * @throws {ConfigError} when a program or file is missing, or a flag about peers has no `--peers` beside it
 */
export function openPeers({ model, peers, against, peerGguf }: PeerConfig, flags: Flags): Peer[] {
  if (peers === undefined) return refuseIdle(flags, ["against", "peerGguf"]);
  return against.map((name) => (name === "hf" ? huggingFace(peers, model) : llamaCpp(peers, peerGguf)));
}

/**
 * No peers, for a run without `--peers`.
 *
 * @throws {ConfigError} when one of these flags was given nevertheless
 */
export function refuseIdle(flags: Flags, keys: readonly string[]): [] {
  const idle = keys.find((key) => flags[key] !== undefined);
  if (idle === undefined) return [];
  throw new ConfigError(`${flagOf(idle)}: needs --peers, the folder that bench/peers/setup.sh made`);
}

/**
 * A file in the folder of `--peers`.
 *
 * @throws {ConfigError} when it is missing
 */
export function peerFile(folder: string, path: string): string {
  const file = join(folder, path);
  if (!existsSync(file)) throw new ConfigError(`--peers: ${file} is missing; make the folder with bench/peers/setup.sh`);
  return file;
}

/** @throws {ConfigError} when the peer cannot load the model */
export function checkFolder(against: string, model: string): void {
  if (existsSync(model) && statSync(model).isDirectory()) return;
  throw new ConfigError(`--against ${against}: needs a Hugging Face folder as --model, got ${model}; leave it out of --against`);
}

/** Runs a script of `bench/peers` with these flags, those that are false left out, for the JSON that it prints. */
export function runScript(folder: string, script: string, flags: Readonly<Record<string, string | number | boolean>>): Promise<unknown> {
  const file = fileURLToPath(new URL(`../peers/${script}`, import.meta.url));
  const args = Object.entries(flags).flatMap(([key, value]) => {
    if (value === false) return [];
    return value === true ? [flagOf(key)] : [flagOf(key), String(value)];
  });
  return runForJson(peerFile(folder, "venv/bin/python"), ["-B", file, ...args]); // -B: no __pycache__ among the sources
}

/** transformers' generate in bench/peers/hf_generate.py. */
function huggingFace(folder: string, model: string): Peer {
  peerFile(folder, "venv/bin/python");
  checkFolder("hf", model);
  return {
    name: "hf",
    async run({ dtype, threads, batch, promptLength, newTokens }) {
      const flags = { model, dtype, threads, batch, promptLength, newTokens };
      const { prefill, decode } = (await runScript(folder, "hf_generate.py", flags)) as { prefill: number; decode: number | null };
      return { prefill, decode: decode ?? Number.NaN };
    },
  };
}

/** llama-batched-bench: each sequence has its own prompt; nothing is sampled. */
function llamaCpp(folder: string, gguf: string | undefined): Peer {
  const bench = peerFile(folder, "llama-build/bin/llama-batched-bench");
  if (gguf === undefined) {
    throw new ConfigError("--against llama.cpp: needs --peer-gguf, the same model in its format; or leave it out with --against hf");
  }
  if (!existsSync(gguf)) throw new ConfigError(`--peer-gguf: ${gguf}: no such file`);
  return {
    name: "llama",
    async run({ threads, batch, promptLength, newTokens }) {
      const flags = {
        m: gguf, t: threads, tb: threads, c: batch * (promptLength + newTokens) + 256, b: 2048, ub: 512,
        npp: promptLength, ntg: newTokens, npl: batch, "-output-format": "jsonl",
      };
      const args = Object.entries(flags).flatMap(([flag, value]) => [`-${flag}`, String(value)]);
      const { speed_pp, speed_tg } = (await runForJson(bench, args)) as { speed_pp: number; speed_tg: number };
      return { prefill: speed_pp, decode: speed_tg };
    },
  };
}
