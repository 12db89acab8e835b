import { join } from "node:path";
import { RewardModel } from "../../src/model/reward-model.ts";
import { RlhfEngine, type RlhfOptions } from "../../src/ppo/rlhf-engine.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { writeTinyModel } from "../model/tiny-model.ts";

/** Folders of the models that PPO starts from. */
export interface TinyFolders {
  actor: string;
  rewardModel: string;
}

/** Writes a tiny actor, and a reward model with another decoder and a random head. Both have the tokenizer of the fixtures. */
export async function writeTinyModels(folder: string, config: Readonly<Record<string, unknown>> = {}): Promise<TinyFolders> {
  const options = { family: "llama", tokenizer: true, config: { max_position_embeddings: 128, ...config } } as const;
  const actor = writeTinyModel(join(folder, "actor"), options);
  const base = writeTinyModel(join(folder, "base"), { ...options, seed: 1 });
  const rewardModel = join(folder, "reward");
  const [model, tokenizer] = [await RewardModel.withNewHead(base, { dtype: "float32", head: { seed: 2 } }), await Tokenizer.load(base)];
  await model.save(rewardModel, { padTokenId: tokenizer.padTokenId });
  await tokenizer.save(rewardModel);
  return { actor, rewardModel };
}

/** The four models of PPO on tiny folders, in float32 unless said. */
export async function loadTinyRlhf(folder: string, options: Partial<RlhfOptions> = {}): Promise<RlhfEngine> {
  return RlhfEngine.load({ ...(await writeTinyModels(folder)), dtype: "float32", ...options });
}

/** Prompts of different lengths. */
export const prompts = [
  [5, 6, 7, 8, 9],
  [10, 11],
  [12, 13, 14, 15, 16, 17, 18],
  [19, 20, 21],
  [22],
  [23, 24, 25, 26, 27, 28],
  [29, 30, 31, 32],
  [33, 34, 35],
];
