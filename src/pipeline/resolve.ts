import { existsSync } from "node:fs";
import { join } from "node:path";
import { sharedFields } from "../config/common.ts";
import type { ConfigOf, Fields } from "../config/fields.ts";
import { flagOf } from "../config/names.ts";
import { fileLayers, flagLayer, onlyKeys, resolve, type Flags, type Layer, type Settings } from "../config/resolve.ts";
import type { SettingsFile } from "../config/settings-file.ts";
import { stepNames, type StepName } from "../config/step.ts";
import { ConfigError } from "../errors.ts";
import { ppoSettings } from "../ppo/config.ts";
import { rewardSettings } from "../reward/config.ts";
import { sftSettings } from "../sft/config.ts";
import { pipelineFields, trainFields, type TrainConfig } from "./config.ts";

/** Where the values of a `TrainConfig` come from. */
export interface TrainSources {
  readonly flags: Flags;
  readonly file: SettingsFile | undefined;
}

/**
 * Resolves the settings of `tschat train`: for each step its flags (`--ppo.kl-coef`) over the shared flags (`--seed`) over its
 * section of the file over the file's shared settings over what follows from the run folder: step `sft` starts from `--model`,
 * `reward` and `ppo` from `<output>/sft/model`, `ppo` scores with `<output>/reward/model`.
 *
 * @throws {ConfigError} also when a step needs the model of an earlier step that neither exists nor is about to be trained
 */
export function resolveTrain({ flags, file }: TrainSources): TrainConfig {
  const pipeline = { name: "train", fields: pipelineFields };
  const { step, output, model, force } = resolve(pipeline, [flagLayer(flags), ...fileLayers(file, pipeline.name)]);
  const sftModel = join(output, "sft", "model");
  const rewardModel = join(output, "reward", "model");

  const layers = (name: StepName, derived: Record<string, unknown>): Layer[] => [
    // Holds nothing: it names the flag to give when a value is missing everywhere.
    { values: {}, label: (key) => flagOf(Object.hasOwn(trainFields, key) ? key : `${name}.${key}`) },
    flagLayer(flags, `${name}.`),
    onlyKeys(flagLayer(flags), sharedFields),
    ...fileLayers(file, name).map((layer, index) => (index === 0 ? layer : onlyKeys(layer, sharedFields))),
    { values: { output: join(output, name), ...derived }, label: (key) => key },
  ];
  const chosen = <F extends Fields>(settings: Settings<F, StepName>, derived: Record<string, unknown>): ConfigOf<F> | undefined =>
    step.includes(settings.name) ? resolve(settings, layers(settings.name, derived)) : undefined;

  const config: TrainConfig = {
    step: stepNames.filter((name) => step.includes(name)),
    output,
    force,
    sft: chosen(sftSettings, model === undefined ? {} : { model }),
    reward: chosen(rewardSettings, { model: sftModel }),
    ppo: chosen(ppoSettings, { actor: sftModel, rewardModel }),
  };
  needs(config.reward?.model, { model: sftModel, from: "sft", by: "reward", flag: "--reward.model" }, config);
  needs(config.ppo?.actor, { model: sftModel, from: "sft", by: "ppo", flag: "--ppo.actor" }, config);
  needs(config.ppo?.rewardModel, { model: rewardModel, from: "reward", by: "ppo", flag: "--ppo.reward-model" }, config);
  return config;
}

interface Need {
  readonly model: string;
  readonly from: StepName;
  readonly by: StepName;
  readonly flag: string;
}

function needs(value: string | undefined, { model, from, by, flag }: Need, config: TrainConfig): void {
  if (value !== model || config[from] !== undefined || existsSync(model)) return;
  throw new ConfigError(
    `step ${by} needs ${model}, which step ${from} makes: add it (--step ${from},${by}) or name another model (${flag} <dir>)`,
  );
}
