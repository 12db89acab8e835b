import { dtypeField, machineFields } from "../config/common.ts";
import { adapterField } from "../config/lora.ts";
import { group, integer, number, path, text, type ConfigOf } from "../config/fields.ts";

/** Settings of `tschat chat`. */
export const chatFields = {
  model: path({
    hint: "<model>", aliases: ["path"], hub: "model",
    help: "model to talk with: a Hugging Face folder, a .gguf file, or org/name[@revision] on the hub",
  }),
  ...adapterField,
  ...group("Answers:", {
    system: text({ optional: true, help: "system message in place of the template's own" }),
    temperature: number({ default: 0.7, min: 0, help: "sampling temperature; 0 always takes the likeliest token" }),
    topP: number({ default: 0.95, above: 0, max: 1, help: "sample from the likeliest tokens that together have this probability" }),
    topK: integer({ default: 0, min: 0, help: "sample from the k likeliest tokens; 0 for no limit" }),
    maxNewTokens: integer({ default: 512, min: 1, help: "longest answer in tokens" }),
    seed: integer({ optional: true, min: 0, help: "seed of sampling; another one in every session when left out" }),
  }),
  ...group("Run:", { ...dtypeField, ...machineFields }),
};

/** Configuration of a chat session. */
export type ChatConfig = ConfigOf<typeof chatFields>;
