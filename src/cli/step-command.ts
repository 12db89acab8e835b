import type { CommandSpec } from "../config/command.ts";
import { configField } from "../config/common.ts";
import type { ConfigOf, Fields } from "../config/fields.ts";
import type { Flags, Settings } from "../config/resolve.ts";
import type { SettingsFile } from "../config/settings-file.ts";
import type { StepConfig, TrainStep } from "../config/step.ts";
import { settingsLayout } from "../pipeline/config.ts";
import { exitCodes } from "./exit-codes.ts";
import { onRanks } from "./on-ranks.ts";

/** What a command that trains one step is made of. */
export interface StepCommandSpec<F extends Fields> {
  readonly settings: Settings<F>;
  readonly summary: string;
  readonly description: string;
  readonly examples: readonly string[];
  /** Loads the code of the step, which loads libtorch; not before the settings are known to be right. */
  readonly load: () => Promise<TrainStep<ConfigOf<F>>>;
}

/** The command of one step: resolves its settings, then trains in a process of its own. */
export function stepCommand<F extends Fields>(spec: StepCommandSpec<F>): CommandSpec {
  const { settings, summary, description, examples } = spec;
  return {
    name: settings.name,
    summary,
    description,
    examples,
    fields: { ...settings.fields, ...configField },
    run: async (flags) => {
      const { fileLayers, flagLayer, resolve } = await import("../config/resolve.ts");
      const file = await settingsFile(flags);
      const { fetchInputs } = await import("./hub-inputs.ts");
      const given = resolve(settings, [flagLayer(flags), ...fileLayers(file, settings.name)]);
      const config = (await fetchInputs(settings.fields, given)) as ConfigOf<F> & StepConfig;
      return onRanks({ reuses: false, restarts: false, threads: config.threads }, async (runStep) => {
        const results = await runStep(settings, config, await spec.load());
        const { pipelineReport } = await import("../pipeline/report.ts");
        process.stdout.write(`\n${pipelineReport({ [settings.name]: results }, config.output)}\n`);
        return exitCodes.ok;
      });
    },
  };
}

/** The file of `--config`, if it is given. */
export async function settingsFile({ config }: Flags): Promise<SettingsFile | undefined> {
  if (typeof config !== "string") return undefined;
  const { readSettings } = await import("../config/settings-file.ts");
  return readSettings(config, settingsLayout);
}
