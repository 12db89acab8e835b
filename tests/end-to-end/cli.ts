import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";
import { writeTinyModel } from "../model/tiny-model.ts";
import { writeJsonl } from "../pipeline/memory-run.ts";

/** The built command line. */
const main = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

/** How a command line ended, and what it printed. */
export interface End {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** A command line at work. */
export interface Running {
  readonly process: ChildProcess;
  /** Resolves with the first match in what standard output has so far or will have. @throws when the program ends without it */
  readonly printed: (pattern: RegExp) => Promise<RegExpExecArray>;
  readonly end: Promise<End>;
}

interface StartOptions {
  readonly cwd?: string;
  readonly input?: string;
  /** Variables besides the ones that every run has. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** No test reaches the real hub: a name that is no path is looked for in a cache that is not there. */
const noHub = { HF_HUB_OFFLINE: "1", HF_HUB_CACHE: "/nonexistent/hub" };

/** Starts `tschat` with these arguments, in a process of its own; `input` is its whole standard input. */
export function start(args: readonly string[], { cwd, input, env: more }: StartOptions = {}): Running {
  // One thread: several of these run beside each other, and a tiny model has nothing to share.
  const env = { PATH: process.env["PATH"], OMP_NUM_THREADS: "1", ...noHub, ...more };
  const child = spawn(process.execPath, [main, ...args], { env, stdio: ["pipe", "pipe", "pipe"], ...(cwd === undefined ? {} : { cwd }) });
  onTestFinished(() => {
    child.kill("SIGKILL");
  });
  let out = "",
    err = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    err += text;
  });
  if (input !== undefined) child.stdin.end(input);
  const end = new Promise<End>((resolve) => {
    child.once("close", (code) => resolve({ code, out, err }));
  });
  const printed = (pattern: RegExp): Promise<RegExpExecArray> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        const match = pattern.exec(out);
        if (match !== null) resolve(match);
      };
      child.stdout.on("data", look);
      look();
      void end.then(() => reject(new Error(`ended without ${pattern}: ${out}${err}`)));
    });
  return { process: child, printed, end };
}

/** Runs `tschat` to its end. */
export function tschat(args: readonly string[], options: StartOptions = {}): Promise<End> {
  return start(args, options).end;
}

/** A tiny model with a tokenizer, in float32 and with a context of 128 tokens. */
export function tinyModel(folder: string, name = "tiny"): string {
  return writeTinyModel(join(folder, name), { family: "llama", tokenizer: true, config: { max_position_embeddings: 128 } });
}

/** Twelve preference pairs. */
export const pairs = Array.from({ length: 12 }, (_, i) => ({
  prompt: `question ${i}`,
  chosen: `yes ${i}`,
  rejected: `no, not ${i} at all`,
}));

/** A file of the pairs. */
export function pairFile(folder: string): string {
  return writeJsonl(join(folder, "pairs.jsonl"), pairs);
}

/** What makes every step small. */
export const smallSteps = ["--eval-size", "4", "--dtype", "float32"];
