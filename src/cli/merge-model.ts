import { exists, writeFolder } from "../checkpoint/atomic.ts";
import { ConfigError } from "../errors.ts";
import { loadDisplay } from "../metrics/load-display.ts";
import { CausalLM } from "../model/causal-lm.ts";
import { openCheckpoint } from "../model/checkpoint-source.ts";
import { SCORE_NAME } from "../model/families/family.ts";
import { observeLoading } from "../model/formats/load-progress.ts";
import { readPeftAdapter } from "../model/peft.ts";
import { RewardModel } from "../model/reward-model.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { MergeConfig } from "./merge-config.ts";

/**
 * Writes the merged model and says where.
 *
 * @throws {ConfigError} when the output exists
 * @throws {CheckpointError} when the adapter is none of this model's
 */
export async function merge({ model: path, adapter, output, dtype }: MergeConfig): Promise<string> {
  if (await exists(output)) throw new ConfigError(`--output: ${output} exists; choose another folder`);
  const source = await openCheckpoint(path);
  const isReward = source.names().includes(SCORE_NAME) || readPeftAdapter(adapter).saved.has(SCORE_NAME);
  source.close();
  const savedDtype = dtype === "auto" ? (source.dtype ?? "bfloat16") : dtype;
  // In memory it is rounded; what is written is read from the checkpoint again, block by block, in the checkpoint's own precision.
  const options = { adapter, dtype: "bfloat16" } as const;
  const observed = <Model>(load: () => Promise<Model>) => observeLoading(loadDisplay(process.stderr), load);
  if (isReward) {
    const model = await observed(() => RewardModel.load(path, options)), { padTokenId } = await Tokenizer.load(path);
    await writeFolder(output, (folder) => model.save(folder, { dtype: savedDtype, padTokenId, flatOf: (block) => model.masterOf(block) }));
  } else {
    const model = await observed(() => CausalLM.load(path, options));
    await writeFolder(output, (folder) => model.save(folder, { dtype: savedDtype, flatOf: (block) => model.masterOf(block) }));
  }
  return `The merged model is in ${output}`;
}
