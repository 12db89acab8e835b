import { copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { readTensors, writeTensors } from "../model/safetensors-file.ts";
import { writeJsonl } from "../pipeline/memory-run.ts";
import { writeTinyModels } from "../ppo/tiny-rlhf.ts";
import { pairFile, pairs } from "./cli.ts";

/**
 * Fills `folder` with good and bad models and data, each named for what is wrong with it. Good are `tiny`, `reward` (a reward
 * model) and `pairs.jsonl`.
 */
export async function writeBrokenFiles(folder: string): Promise<void> {
  const { actor } = await writeTinyModels(folder); // also writes "reward"
  cpSync(actor, join(folder, "tiny"), { recursive: true });
  writeBrokenModels(folder);
  writeBrokenData(folder);
}

function writeBrokenModels(folder: string): void {
  const copy = (name: string, of = "tiny"): string => {
    cpSync(join(folder, of), join(folder, name), { recursive: true });
    return join(folder, name);
  };
  const edit = (file: string, change: (json: Record<string, unknown>) => object) =>
    writeFileSync(file, JSON.stringify(change(JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>)));

  truncateSync(join(copy("truncated"), "model.safetensors"), 100_000);
  edit(join(copy("misshapen"), "config.json"), (config) => ({ ...config, intermediate_size: 64 }));
  edit(join(copy("one-layer-more"), "config.json"), (config) => ({ ...config, num_hidden_layers: 3 }));
  edit(join(copy("unknown-family"), "config.json"), (config) => ({ ...config, model_type: "mamba" }));
  writeFileSync(join(copy("broken-config"), "config.json"), '{"model_type": "llama",');
  rmSync(join(copy("no-config"), "config.json"));
  rmSync(join(copy("no-tokenizer"), "tokenizer.json"));
  writeFileSync(join(copy("broken-tokenizer"), "tokenizer.json"), "{}");
  writeFileSync(join(copy("broken-template"), "chat_template.jinja"), "{% for message in messages %}{{ message.content }}");
  const pickled = copy("pickled");
  rmSync(join(pickled, "model.safetensors"));
  copyFileSync(fileURLToPath(new URL("../fixtures/torch-files/os-system.bin", import.meta.url)), join(pickled, "pytorch_model.bin"));
  writeFileSync(join(folder, "fake.gguf"), "this is no GGUF file");
  writeFileSync(join(folder, "model.bin"), "");
  for (const [name, of] of [
    ["nan", "tiny"],
    ["nan-reward", "reward"],
  ] as const)
    poison(join(copy(name, of), "model.safetensors"));
  mkdirSync(join(folder, "notes"));
  writeFileSync(join(folder, "notes", "todo.txt"), "mine");
}

/** Puts a NaN into every norm. */
function poison(file: string): void {
  const tensors = new Map(
    [...readTensors(file)].map(([name, { shape, data }]) => [
      name,
      { shape, data: name.includes("norm") ? data.map(() => Number.NaN) : data },
    ]),
  );
  writeTensors(file, tensors);
}

function writeBrokenData(folder: string): void {
  pairFile(folder);
  writeFileSync(join(folder, "empty.jsonl"), "");
  writeFileSync(join(folder, "blank.jsonl"), "\n\n");
  writeJsonl(
    join(folder, "prompts.jsonl"),
    pairs.map(({ prompt }) => ({ prompt })),
  );
  writeJsonl(join(folder, "no-prompt.jsonl"), [pairs[0] ?? {}, { chosen: "a", rejected: "b" }]);
  writeFileSync(join(folder, "bad-json.jsonl"), `${JSON.stringify(pairs[0])}\n${JSON.stringify(pairs[1])}\n{"prompt": "x",\n`);
  writeJsonl(
    join(folder, "long.jsonl"),
    pairs.map((pair) => ({ ...pair, prompt: "and ".repeat(200) })),
  );
  writeFileSync(join(folder, "cut.jsonl.gz"), gzipSync(`${JSON.stringify(pairs[0])}\n`.repeat(500)).subarray(0, 60));
  writeFileSync(join(folder, "typo.yaml"), "sft:\n  epochs: 1\n  learningRat: 1\n");
  copyFileSync(join(folder, "pairs.jsonl"), join(folder, "a-file"));
}
