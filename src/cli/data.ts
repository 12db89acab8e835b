import type { CommandSpec } from "../config/command.ts";
import { configField } from "../config/common.ts";
import type { ConfigOf, Fields } from "../config/fields.ts";
import type { Flags } from "../config/resolve.ts";
import { previewFields, validateFields } from "./data-config.ts";
import { settingsFile } from "./step-command.ts";

/** `tschat data preview` */
export const dataPreviewCommand: CommandSpec = {
  name: "data preview",
  summary: "show what each training step makes of data",
  description: "Shows samples with the tokens that are learned, lengths, and what each step gets. Reads everything in bounded memory.",
  examples: [
    "tschat data preview --data pairs.jsonl",
    "tschat data preview --data pairs.jsonl --model SmolLM2-135M-Instruct.gguf --step reward --limit 5",
    "tschat data preview --data qa.csv --data-fields prompt=question,completion=answer",
    "tschat data preview --config train.yaml --step ppo",
  ],
  fields: { ...previewFields, ...configField },
  run: async (flags) => {
    const config = await dataConfig("data preview", previewFields, flags);
    return (await import("./data-preview.ts")).preview(config, process.stdout);
  },
};

/** `tschat data validate` */
export const dataValidateCommand: CommandSpec = {
  name: "data validate",
  summary: "check every record of data files",
  description: "Reads everything in bounded memory and lists bad records with file, line, field and reason. Exit code 1 if there is one.",
  examples: [
    "tschat data validate --data pairs.jsonl",
    "tschat data validate --data train.jsonl.gz --eval-data test.jsonl --report bad.jsonl",
    "tschat data validate --data pairs.jsonl --model SmolLM2-135M-Instruct.gguf --max-seq-len 1024",
  ],
  fields: { ...validateFields, ...configField },
  run: async (flags) => {
    const config = await dataConfig("data validate", validateFields, flags);
    return (await import("./data-validate.ts")).validate(config, process.stdout);
  },
};

/** The flags over what a settings file of training says: at its top, and with `--step` in that step's section. */
async function dataConfig<F extends Fields>(name: string, fields: F, flags: Flags): Promise<ConfigOf<F>> {
  const { fileLayers, flagLayer, resolve } = await import("../config/resolve.ts");
  const { fetchInputs } = await import("./hub-inputs.ts");
  const layers = [flagLayer(flags), ...fileLayers(await settingsFile(flags), String(flags["step"] ?? ""))];
  return fetchInputs(fields, resolve({ name, fields }, layers));
}
