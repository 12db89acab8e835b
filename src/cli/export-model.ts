import { rename, rm, stat } from "node:fs/promises";
import { exists, explainFailure } from "../checkpoint/atomic.ts";
import { ConfigError } from "../errors.ts";
import { resolveModel } from "../hub/resolve.ts";
import { type CheckpointSource, openCheckpoint } from "../model/checkpoint-source.ts";
import { SCORE_NAME } from "../model/families/family.ts";
import { familyOf } from "../model/families/registry.ts";
import { withFamilyNames } from "../model/family-names.ts";
import { exportGguf } from "../model/gguf/export.ts";
import { DTYPE_ENCODINGS, type GgufDtype } from "../model/gguf/quantize.ts";
import { mergedCheckpoint } from "../model/merged-checkpoint.ts";
import { specOf } from "../model/pretrained.ts";
import { readGgufTokenizer } from "../tokenizer/gguf-tokenizer.ts";
import { readTokenizerFolder } from "../tokenizer/folder.ts";
import type { ExportConfig } from "./export-config.ts";
import { writeModelFolder } from "./merge-model.ts";

/** Dtypes of a Hugging Face folder. */
const folderDtypes = { auto: undefined, f32: "float32", f16: "float16", bf16: "bfloat16" } as const;

/**
 * Writes the model in another format and says where.
 *
 * @throws {ConfigError} when the output exists, or the format cannot hold the model
 * @throws {CheckpointError} when the model is damaged or the adapter is none of its
 */
export async function exportModel({ model, adapter, format, dtype, output }: ExportConfig): Promise<string> {
  if (await exists(output)) throw new ConfigError(`--output: ${output} exists; choose another ${format === "gguf" ? "file" : "folder"}`);
  if (format === "hf") {
    if (dtype === "q8_0") throw new ConfigError("--dtype q8_0 is for --format gguf: a Hugging Face folder is f32, f16 or bf16");
    await writeModelFolder({ model, adapter, output, dtype: folderDtypes[dtype] });
    return `The model is in ${output}`;
  }
  if (!output.endsWith(".gguf")) throw new ConfigError(`--output: ${output}: the name of a GGUF file ends in .gguf`);
  const base = await openCheckpoint(model);
  const source = withAdapter(base, adapter);
  if (source.names().includes(SCORE_NAME)) {
    throw new ConfigError(`--model: ${model} is a reward model, which llama.cpp does not have; export it with --format hf`);
  }
  const path = await resolveModel(model);
  const tokenizer = path.endsWith(".gguf") ? await readGgufTokenizer(path) : await readTokenizerFolder(path);
  // Written aside and renamed: it is there whole or not at all.
  const part = `${output}.part`;
  await explainFailure(output, async () => {
    try {
      exportGguf(part, { source, tokenizer, dtype: dtype === "auto" ? sourceDtype(source) : dtype });
      await rename(part, output);
    } finally {
      await rm(part, { force: true });
      base.close();
    }
  });
  return `${output}: ${((await stat(output)).size / 2 ** 20).toFixed(0)} MiB`;
}

/** The adapter fits if its matrices do: the model is not built. */
function withAdapter(base: CheckpointSource, adapter: string | undefined): CheckpointSource {
  if (adapter === undefined) return base;
  const family = familyOf(base.config, base.path);
  const named = withFamilyNames(base, family), namedAs = new Map(base.names().map((name, i) => [name, named.names()[i] ?? name]));
  const merged = mergedCheckpoint(named, adapter, family.entries(specOf(family, base.config)));
  return { ...base, read: (name) => merged.read(namedAs.get(name) ?? name) };
}

function sourceDtype({ dtype }: CheckpointSource): GgufDtype {
  return (dtype && DTYPE_ENCODINGS[dtype]) ?? "bf16";
}
