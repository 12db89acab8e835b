import type { CommandSpec } from "../config/command.ts";
import { exitCodes } from "./exit-codes.ts";
import { exportFields } from "./export-config.ts";

/** `tschat export` */
export const exportCommand: CommandSpec = {
  name: "export",
  summary: "write a model as a GGUF file for llama.cpp, or in another number format",
  description:
    "Writes a model, with an adapter merged if one is given, as a GGUF file that llama.cpp loads (weights, tokenizer and chat template), " +
    "or as a Hugging Face folder in another number format.",
  examples: [
    "tschat export --model runs/first/final --output assistant.gguf",
    "tschat export --model path/to/base --adapter path/to/adapter --dtype q8_0 --output assistant-q8_0.gguf",
    "tschat export --model path/to/model --format hf --dtype bf16 --output model-bf16",
  ],
  fields: exportFields,
  run: async (flags) => {
    const { flagLayer, resolve } = await import("../config/resolve.ts");
    const config = resolve({ name: "export", fields: exportFields }, [flagLayer(flags)]);
    const { exportModel } = await import("./export-model.ts");
    process.stdout.write(`${await exportModel(config)}\n`);
    return exitCodes.ok;
  },
};
