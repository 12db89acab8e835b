import type { CommandSpec } from "../config/command.ts";
import { exitCodes } from "./exit-codes.ts";
import { mergeFields } from "./merge-config.ts";

/** `tschat merge` */
export const mergeCommand: CommandSpec = {
  name: "merge",
  summary: "make one model of a model and its LoRA adapter",
  description: "Adds a LoRA adapter to the model that it was trained on and writes the result as a folder of its own.",
  examples: ["tschat merge --model path/to/base --adapter path/to/adapter --output merged"],
  fields: mergeFields,
  run: async (flags) => {
    const { flagLayer, resolve } = await import("../config/resolve.ts");
    const { fetchInputs } = await import("./hub-inputs.ts");
    const config = await fetchInputs(mergeFields, resolve({ name: "merge", fields: mergeFields }, [flagLayer(flags)]));
    const { merge } = await import("./merge-model.ts");
    process.stdout.write(`${await merge(config)}\n`);
    return exitCodes.ok;
  },
};
