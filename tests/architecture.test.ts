import { readdirSync, readFileSync } from "node:fs";
import { posix } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const MAX_LINES = 500;
const ADDON_LOADER = "native/binding.ts";
const STEPS = ["sft", "reward", "dpo", "ppo"];
const BELOW_STEPS = [
  "config", "tensor", "nn", "optim", "model", "tokenizer", "data", "distributed", "engine", "checkpoint", "metrics", "eval",
];

/** Which folders of src a folder may import, besides itself and errors.ts. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  native: [],
  config: [],
  hub: ["checkpoint"], // its locks and atomic writes
  tokenizer: ["hub"],
  tensor: ["native"],
  nn: ["tensor"],
  optim: ["tensor", "nn"],
  model: ["tensor", "nn", "optim", "tokenizer", "hub"], // GGUF files carry a tokenizer
  data: ["tensor", "tokenizer", "hub"],
  distributed: ["native", "tensor", "nn", "optim", "model"],
  metrics: ["distributed"],
  engine: ["tensor", "nn", "optim", "model", "distributed", "tokenizer"],
  checkpoint: ["config", "tensor", "nn", "optim", "model", "distributed"],
  eval: ["config", "tensor", "model", "tokenizer", "data", "distributed", "engine", "metrics"],
  ...Object.fromEntries(STEPS.map((step) => [step, BELOW_STEPS])),
  plan: ["config", "model", "distributed"],
  feedback: ["config", "data"],
  pipeline: [...BELOW_STEPS, ...STEPS, "plan", "feedback"],
  server: ["config", "tensor", "model", "tokenizer", "data", "engine", "metrics", "feedback"],
  cli: [...BELOW_STEPS, ...STEPS, "native", "hub", "plan", "feedback", "pipeline", "server"],
};

interface SourceFile {
  /** Relative to src, with forward slashes. */
  path: string;
  text: string;
}

/** What breaks the rules, one sentence each. */
function findViolations(files: readonly SourceFile[]): string[] {
  return files.flatMap((file) => [...findForbiddenImports(file), ...findOtherRules(file)]);
}

function findForbiddenImports({ path, text }: SourceFile): string[] {
  const folder = folderOf(path);
  if (folder === "" && path !== "errors.ts") return []; // index.ts re-exports what it likes
  const allowed = folder === "" ? [] : MAY_IMPORT[folder];
  if (allowed === undefined) return [`${path}: the folder ${folder} is not in the import table`];
  return relativeImports(text).flatMap(({ specifier, isType }) => {
    const target = posix.normalize(posix.join(posix.dirname(path), specifier));
    const targetFolder = folderOf(target);
    // The contract's types are names only; they load nothing.
    const isContractType = isType && target === ADDON_LOADER && !["config", "tokenizer"].includes(folder);
    if (!specifier.endsWith(".ts")) return [`${path}: "${specifier}" does not end in .ts`];
    if (target === "errors.ts" || targetFolder === folder || isContractType || allowed.includes(targetFolder)) return [];
    return [`${path}: ${folder || path} may not import ${targetFolder || target}`];
  });
}

function findOtherRules({ path, text }: SourceFile): string[] {
  const violations: string[] = [];
  const lines = text.trimEnd().split("\n").length;
  if (lines > MAX_LINES) violations.push(`${path}: ${lines} lines, the limit is ${MAX_LINES}`);
  const loadsAddon = /\.node["'`]|\bdlopen\(|build\/native/.test(text);
  if (loadsAddon && path !== ADDON_LOADER) violations.push(`${path}: only ${ADDON_LOADER} loads the addon`);
  return violations;
}

function relativeImports(text: string): { specifier: string; isType: boolean }[] {
  const code = text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");
  const pattern = /\b(import|export)\b(\s+type\b)?(?:[^"';]*?\bfrom\s*|\s*\(?\s*)"(\.\.?\/[^"]+)"/g;
  return [...code.matchAll(pattern)].map(([, , type, specifier]) => ({ specifier: specifier ?? "", isType: type !== undefined }));
}

function folderOf(path: string): string {
  return path.includes("/") ? (path.split("/", 1)[0] ?? "") : "";
}

function readSource(): SourceFile[] {
  const root = fileURLToPath(new URL("../src", import.meta.url));
  const paths = readdirSync(root, { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".ts"));
  return paths.map((path) => ({ path, text: readFileSync(`${root}/${path}`, "utf8") }));
}

describe("the checker", () => {
  const check = (path: string, text: string) => findViolations([{ path, text }]);

  test("finds a step that imports another step", () => {
    const violations = check("ppo/train.ts", 'import { pairwiseLoss } from "../reward/pairwise-loss.ts";');
    expect(violations).toEqual(["ppo/train.ts: ppo may not import reward"]);
  });

  test("finds upward imports in every form", () => {
    const violation = ["model/families/llama.ts: model may not import engine"];
    expect(check("model/families/llama.ts", 'import type { KvCache } from "../../engine/kv-cache.ts";')).toEqual(violation);
    expect(check("model/families/llama.ts", 'import {\n  KvCache,\n} from "../../engine/kv-cache.ts";')).toEqual(violation);
    expect(check("model/families/llama.ts", 'export * from "../../engine/kv-cache.ts";')).toEqual(violation);
    expect(check("model/families/llama.ts", 'const m = await import("../../engine/kv-cache.ts");')).toEqual(violation);
    expect(check("model/families/llama.ts", 'import "../../engine/kv-cache.ts";')).toEqual(violation);
  });

  test("lets everything import errors, its own folder, packages, and what the table allows", () => {
    const text = ['import { join } from "node:path";', 'import { z } from "zod";', 'import { ConfigError } from "../errors.ts";'];
    text.push('import { kl } from "./kl.ts";', 'import { Tensor } from "../tensor/tensor.ts";');
    expect(check("ppo/losses.ts", text.join("\n"))).toEqual([]);
  });

  test("lets the layers above tensor name the contract's types, but not call it", () => {
    expect(check("model/a.ts", 'import type { DType } from "../native/binding.ts";')).toEqual([]);
    expect(check("model/a.ts", 'import { binding } from "../native/binding.ts";')).toEqual(["model/a.ts: model may not import native"]);
  });

  test("keeps errors.ts, config and tokenizer free of everything", () => {
    expect(check("errors.ts", 'import { x } from "./config/fields.ts";')).toEqual(["errors.ts: errors.ts may not import config"]);
    expect(check("config/a.ts", 'import { x } from "../tensor/tensor.ts";')).toEqual(["config/a.ts: config may not import tensor"]);
    const contractType = 'import type { x } from "../native/binding.ts";';
    expect(check("tokenizer/a.ts", contractType)).toEqual(["tokenizer/a.ts: tokenizer may not import native"]);
  });

  test("ignores comments", () => {
    expect(check("nn/a.ts", '/** like `import { x } from "../cli/main.ts"` */\n// import { y } from "../cli/main.ts";\n')).toEqual([]);
  });

  test("finds a folder outside of the table, a long file and a second loader of the addon", () => {
    expect(check("utils/a.ts", "")).toEqual(["utils/a.ts: the folder utils is not in the import table"]);
    expect(check("nn/a.ts", "x\n".repeat(501))).toEqual(["nn/a.ts: 501 lines, the limit is 500"]);
    expect(check("nn/a.ts", "x\n".repeat(500))).toEqual([]);
    expect(check("nn/a.ts", 'require("../../build/x.node");')).toEqual(["nn/a.ts: only native/binding.ts loads the addon"]);
    expect(check("native/binding.ts", 'require("../../build/x.node");')).toEqual([]);
  });
});

test("src keeps to the import order", () => {
  const files = readSource();
  expect(files.some(({ path }) => path === ADDON_LOADER)).toBe(true);
  expect(findViolations(files)).toEqual([]);
});
