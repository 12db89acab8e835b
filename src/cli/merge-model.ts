import { exists, writeFolder } from "../checkpoint/atomic.ts";
import { ConfigError } from "../errors.ts";
import { loadDisplay } from "../metrics/load-display.ts";
import { CausalLM } from "../model/causal-lm.ts";
import { openCheckpoint } from "../model/checkpoint-source.ts";
import { SCORE_NAME } from "../model/families/family.ts";
import { observeLoading } from "../model/formats/load-progress.ts";
import { readPeftAdapter } from "../model/peft.ts";
import { RewardModel } from "../model/reward-model.ts";
import type { DType } from "../native/binding.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { MergeConfig } from "./merge-config.ts";

/**
 * Writes the merged model and says where.
 *
 * @throws {ConfigError} when the output exists
 * @throws {CheckpointError} when the adapter is none of this model's
 */
export async function merge({ model, adapter, output, dtype }: MergeConfig): Promise<string> {
  if (await exists(output)) throw new ConfigError(`--output: ${output} exists; choose another folder`);
  await writeModelFolder({ model, adapter, output, dtype: dtype === "auto" ? undefined : dtype });
  return `The merged model is in ${output}`;
}

/**
 * Writes a language or reward model, with an adapter merged if there is one, as a Hugging Face folder.
 *
 * @param dtype of the result; that of the model where it is left out, and bfloat16 for a quantised file
 * @throws {CheckpointError} when the model is damaged or the adapter is none of its
 */
export async function writeModelFolder(
  { model: path, adapter, output, dtype }: { model: string; adapter: string | undefined; output: string; dtype: DType | undefined },
): Promise<void> {
  const source = await openCheckpoint(path);
  const isReward = source.names().includes(SCORE_NAME) || (adapter !== undefined && readPeftAdapter(adapter).saved.has(SCORE_NAME));
  source.close();
  const savedDtype = dtype ?? source.dtype ?? "bfloat16";
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
}
