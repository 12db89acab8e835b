import { choice, path, type ConfigOf } from "../config/fields.ts";

/** Settings of `tschat merge`. */
export const mergeFields = {
  model: path({
    hint: "<model>", hub: "model",
    help: "model that the adapter was trained on: a Hugging Face folder, a .gguf file, or org/name[@revision] on the hub",
  }),
  adapter: path({
    hint: "<dir>", hub: "adapter", help: "LoRA adapter in PEFT's format: adapter_config.json and adapter_model.safetensors",
  }),
  output: path({ hint: "<dir>", aliases: ["output_dir"], help: "folder to write, which must not exist yet" }),
  dtype: choice(["auto", "float32", "bfloat16"], {
    default: "auto", synonyms: { fp32: "float32", bf16: "bfloat16" },
    help: "number format of the result; auto is that of the model, and bfloat16 for a quantised file",
  }),
};

/** Configuration of a merge. */
export type MergeConfig = ConfigOf<typeof mergeFields>;
