/**
 * Loads models with tschat, saves them in shards, and compares tschat's logits with those of transformers on the written folder and on the
 * original one, in float32 on fixed tokens. Prints a table; exits with 1 when a written folder is off by more than 1e-3 of the largest
 * logit. (An old transformers may itself misread an original folder whose configuration is in a newer spelling.)
 *
 *     node tests/external/transformers.ts --python PYTHON MODEL...
 *
 * PYTHON is an interpreter with torch and transformers, MODEL a Hugging Face folder.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { table } from "../../src/metrics/format.ts";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { noGrad } from "../../src/tensor/autograd.ts";

const TOLERANCE = 1e-3;
const ROWS = 2,
  LENGTH = 24;
const script = fileURLToPath(new URL("./load-in-transformers.py", import.meta.url));

interface Request {
  folder: string;
  tokens: number[][];
  output: string;
}

/** Fixed tokens, all over the vocabulary and away from the special ones at its beginning. */
function tokensFor(vocabSize: number): number[][] {
  const token = (row: number, i: number) => 3 + ((row * 7919 + i * 104_729) % (vocabSize - 3));
  return Array.from({ length: ROWS }, (_, row) => Array.from({ length: LENGTH }, (_, i) => token(row, i)));
}

function runPython(python: string, requests: readonly Request[]): string {
  const { status, stdout, stderr, error } = spawnSync(python, [script], { input: JSON.stringify(requests), encoding: "utf8" });
  if (error) throw error;
  if (status !== 0) throw new Error(`${python}: exit code ${status}: ${stderr.trim().split("\n").slice(-3).join("\n")}`);
  return stdout.trim();
}

function largestDifference(ours: ArrayLike<number>, file: string): number {
  const bytes = readFileSync(file);
  const theirs = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  if (theirs.length !== ours.length) throw new Error(`${file}: ${theirs.length} logits, expected ${ours.length}`);
  let largest = 0;
  for (let i = 0; i < theirs.length; i++) {
    const difference = Math.abs((ours[i] ?? 0) - (theirs[i] ?? 0));
    if (!(difference <= largest)) largest = difference; // a NaN stays
  }
  return largest;
}

async function compare(python: string, path: string, scratch: string): Promise<{ cells: string[]; isEqual: boolean; version: string }> {
  const model = await CausalLM.load(path, { dtype: "float32" });
  const folder = join(scratch, "saved"),
    tokens = tokensFor(model.spec.vocabSize);
  rmSync(folder, { recursive: true, force: true });
  await model.save(folder, { dtype: "float32", maxShardSize: Math.ceil((model.numParameters * 4) / 3) });
  const ours = noGrad(() => model.forward(tokens).reshape([-1]).numbers());
  const written = { folder, tokens, output: join(scratch, "written.f32") };
  const original = { folder: path, tokens, output: join(scratch, "original.f32") };
  const version = runPython(python, [written, original]);
  const differences = [written, original].map(({ output }) => largestDifference(ours, output));
  const largest = ours.reduce((max, logit) => Math.max(max, Math.abs(logit)), 0);
  const numFiles = readdirSync(folder).filter((name) => name.endsWith(".safetensors")).length;
  return {
    cells: [
      basename(path),
      model.architecture,
      `${(model.numParameters / 1e6).toFixed(2)} M`,
      String(numFiles),
      largest.toFixed(1),
      ...differences.map((difference) => difference.toExponential(1)),
    ],
    isEqual: (differences[0] ?? Number.NaN) <= TOLERANCE * largest,
    version,
  };
}

const { values, positionals } = parseArgs({ options: { python: { type: "string" } }, allowPositionals: true });
if (values.python === undefined || positionals.length === 0) {
  throw new Error("usage: node tests/external/transformers.ts --python PYTHON MODEL...");
}
const scratch = mkdtempSync(join(tmpdir(), "tschat-transformers-"));
try {
  const results = [];
  for (const path of positionals) results.push(await compare(values.python, path, scratch));
  const header = ["model", "class", "size", "files", "largest logit", "difference: written folder", "original folder"];
  process.stdout.write(`transformers ${results[0]?.version}, float32, ${ROWS} x ${LENGTH} tokens\n`);
  process.stdout.write(
    `${table(
      header,
      results.map(({ cells }) => cells),
    )}\n`,
  );
  process.exitCode = results.every(({ isEqual }) => isEqual) ? 0 : 1;
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
