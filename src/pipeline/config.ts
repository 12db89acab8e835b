import { configField, forceField, machineFields, outputField, sharedFields } from "../config/common.ts";
import { choices, group, integer, path, type ConfigOf, type Fields } from "../config/fields.ts";
import type { SettingsLayout } from "../config/settings-file.ts";
import { stepNames, type RunStep, type StepName } from "../config/step.ts";
import { ppoFields, type PpoConfig } from "../ppo/config.ts";
import { rewardFields, type RewardConfig } from "../reward/config.ts";
import { sftFields, type SftConfig } from "../sft/config.ts";

const ownFields = {
  ...group("Model:", {
    model: path({
      hint: "<model>", optional: true, aliases: ["actor_model"], hub: "model",
      help: "pretrained model that step sft starts from: a Hugging Face folder, a .gguf file, or org/name[@revision] on the hub",
    }),
  }),
  ...outputField,
  ...group("Steps:", {
    step: choices(stepNames, {
      default: stepNames, synonyms: { 1: "sft", 2: "reward", 3: "ppo" }, aliases: ["steps"], help: "steps to run, by name or by number",
    }),
  }),
};

/** Settings of `tschat train` itself; the steps add theirs. */
export const pipelineFields = { ...ownFields, ...forceField };

/** All flags of `tschat train` without a step's prefix. */
export const trainFields = { ...ownFields, ...sharedFields, ...configField };

/** The fields of each step, which `tschat train` takes as `--<step>.<setting>`. */
export const stepFields: Readonly<Record<StepName, Fields>> = { sft: sftFields, reward: rewardFields, ppo: ppoFields };

/** What a settings file may hold, for `tschat train` and for the single steps alike. */
export const settingsLayout: SettingsLayout = { shared: { ...pipelineFields, ...sharedFields }, sections: stepFields };

/** Configuration of all steps; a step that was not chosen is undefined. */
export interface TrainConfig {
  readonly step: readonly StepName[];
  readonly output: string;
  readonly force: boolean;
  readonly sft: SftConfig | undefined;
  readonly reward: RewardConfig | undefined;
  readonly ppo: PpoConfig | undefined;
}

/** Settings of `tschat quickstart`. */
export const quickstartFields = {
  model: path({ hint: "<file.gguf>", hub: "model", help: "SmolLM2-135M-Instruct; npm run quickstart fetches it and passes it" }),
  output: path({ hint: "<dir>", default: "runs/quickstart", help: "run folder to write" }),
  seed: integer({ default: 1234, min: 0, help: "seed of shuffling, initialisation and sampling" }),
  ...machineFields,
  ...forceField,
};

/** Configuration of the quickstart. */
export type QuickstartConfig = ConfigOf<typeof quickstartFields>;

/** Results of the quickstart, besides what else its `summary.json` holds. */
export interface QuickstartSummary {
  /** Whether PPO raised the reward on held-out prompts by more than three standard errors of the paired difference. */
  readonly rewardRose: boolean;
}

/** Trains, evaluates and prints the quickstart. */
export type Quickstart = (config: QuickstartConfig, runStep: RunStep) => Promise<QuickstartSummary>;
