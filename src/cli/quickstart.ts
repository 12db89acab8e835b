import type { CommandSpec } from "../config/command.ts";
import { quickstartFields, type Quickstart } from "../pipeline/config.ts";
import { exitCodes } from "./exit-codes.ts";
import { onRanks } from "./on-ranks.ts";

/** `tschat quickstart` */
export const quickstartCommand: CommandSpec = {
  name: "quickstart",
  summary: "train a small chat model with RLHF, data included",
  description: `Trains SmolLM2-135M-Instruct to give short, direct, polite answers: SFT, reward model, PPO, on data that comes with tschat.
Takes some minutes on two cores, and ends with a table and the command that chats with the result.`,
  examples: ["npm run quickstart", "tschat quickstart --model SmolLM2-135M-Instruct.gguf --output runs/quickstart"],
  fields: quickstartFields,
  run: async (flags) => {
    const { flagLayer, resolve } = await import("../config/resolve.ts");
    const { fetchInputs } = await import("./hub-inputs.ts");
    const config = await fetchInputs(quickstartFields, resolve({ name: "quickstart", fields: quickstartFields }, [flagLayer(flags)]));
    return onRanks({ reuses: true, restarts: true, threads: config.threads }, async (runStep) => {
      const { inPipelineFolder } = await import("./step-run.ts");
      const quickstart: Quickstart = (await import("../pipeline/quickstart.ts")).quickstart;
      const { rewardRose } = await inPipelineFolder(config.output, { output: config.output }, () => quickstart(config, runStep));
      return rewardRose ? exitCodes.ok : exitCodes.noImprovement;
    });
  },
};
