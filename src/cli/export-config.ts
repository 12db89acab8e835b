import { type ConfigOf, choice, path } from "../config/fields.ts";

/** Settings of `tschat export`. */
export const exportFields = {
  model: path({ hint: "<dir|file.gguf>", help: "model to export: a Hugging Face folder or a .gguf file" }),
  adapter: path({ optional: true, hint: "<dir>", help: "LoRA adapter in PEFT's format, merged into the model on the way" }),
  format: choice(["gguf", "hf"], {
    default: "gguf", help: "gguf is one file for llama.cpp and what is built on it; hf is a Hugging Face folder in another number format",
  }),
  dtype: choice(["auto", "f32", "f16", "bf16", "q8_0"], {
    default: "auto", synonyms: { float32: "f32", fp32: "f32", float16: "f16", fp16: "f16", bfloat16: "bf16" },
    help: "number format of the weights; auto is that of the model, and bf16 for a quantised file; q8_0 (8 bits) is for gguf only",
  }),
  output: path({ hint: "<file.gguf|dir>", help: "file or folder to write, which must not exist yet" }),
};

/** Configuration of an export. */
export type ExportConfig = ConfigOf<typeof exportFields>;
