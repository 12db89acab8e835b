import { join } from "node:path";
import type { CommandSpec } from "../config/command.ts";
import { stepFields, trainFields, type TrainConfig } from "../pipeline/config.ts";
import { ppoFields } from "../ppo/config.ts";
import { rewardFields } from "../reward/config.ts";
import { sftFields } from "../sft/config.ts";
import { exitCodes } from "./exit-codes.ts";
import { onRanks } from "./on-ranks.ts";
import { settingsFile } from "./step-command.ts";

/** `tschat train` */
export const trainCommand: CommandSpec = {
  name: "train",
  summary: "all three steps: SFT, reward model, PPO",
  description: `All three steps, or the chosen ones: SFT, reward model, PPO. Each writes its folder below --output; a step that is
finished is reused unless --force. Settings of one step carry its name: --sft.learning-rate, --reward.epochs, --ppo.kl-coef; they are listed
by "tschat sft --help" and so on, and win over the shared ones below. By default the SFT model is what the reward model and PPO
start from, and PPO scores with the reward model of step 2; --reward.model, --ppo.actor and --ppo.reward-model name others.`,
  examples: [
    "tschat train --model SmolLM2-135M-Instruct.gguf --data preferences.jsonl --output runs/first",
    "tschat train --config train.yaml --step ppo --ppo.kl-coef 0.1 --force",
    "tschat train --model base --data pairs.jsonl --data-split 2,4,4 --output runs/second --sft.epochs 2 --ppo.max-steps 50",
  ],
  fields: trainFields,
  steps: stepFields,
  run: async (flags) => {
    const { resolveTrain } = await import("../pipeline/resolve.ts");
    const { fetchInputs } = await import("./hub-inputs.ts");
    const given = resolveTrain({ flags, file: await settingsFile(flags) });
    const made = [join(given.output, "sft", "model"), join(given.output, "reward", "model")];
    const config: TrainConfig = {
      ...given,
      sft: given.sft && (await fetchInputs(sftFields, given.sft, made)),
      reward: given.reward && (await fetchInputs(rewardFields, given.reward, made)),
      ppo: given.ppo && (await fetchInputs(ppoFields, given.ppo, made)),
    };
    const threads = (config.sft ?? config.reward ?? config.ppo)?.threads;
    return onRanks({ reuses: true, restarts: false, threads }, async (runStep) => {
      const { inPipelineFolder } = await import("./step-run.ts");
      const { trainAll } = await import("../pipeline/train.ts");
      const summary = await inPipelineFolder(config.output, await savedSettings(config), () => trainAll(config, runStep));
      const { pipelineReport } = await import("../pipeline/report.ts");
      process.stdout.write(`\n${pipelineReport(summary, join(config.output, config.step.at(-1) ?? ""))}\n`);
      return exitCodes.ok;
    });
  },
};

async function savedSettings({ step, output, sft, reward, ppo }: TrainConfig): Promise<Record<string, unknown>> {
  const { savedValues } = await import("../config/settings-file.ts");
  return {
    output,
    step,
    ...(sft && { sft: savedValues(sftFields, sft) }),
    ...(reward && { reward: savedValues(rewardFields, reward) }),
    ...(ppo && { ppo: savedValues(ppoFields, ppo) }),
  };
}
