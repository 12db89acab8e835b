// PPO as a library: node examples/rlhf-loop.ts <SFT model> <reward model> <prompts.jsonl> <output folder>
// The models are what "tschat sft" and "tschat reward" leave in their folders; "tschat ppo" is this loop with a log,
// evaluation on held-out prompts and checkpoints.
import { data, PpoTrainer, RlhfEngine } from "tschat";

const [actor, rewardModel, promptFile, output] = process.argv.slice(2);
if (!actor || !rewardModel || !promptFile || !output) {
  throw new Error("usage: node examples/rlhf-loop.ts <SFT model> <reward model> <prompts.jsonl> <output folder>");
}

const seed = 1;
const rlhf = await RlhfEngine.load({ actor, rewardModel });
const records = await data.loadDataset([promptFile], "ppo", { seed });
const { samples } = await data.encodePrompts(records.train, rlhf.tokenizer, { maxPromptLen: 128 });

const trainer = new PpoTrainer(rlhf, { seed, maxNewTokens: 32, miniBatchSize: 8, actorLearningRate: 1e-5, criticLearningRate: 2e-5 });
for (const { rows } of data.trainingBatches({ size: samples.length, batchSize: 16, numEpochs: 1, seed })) {
  const prompts = rows.flatMap((row) => samples[row] ?? []);
  const experience = await trainer.generateExperience(prompts); // rollout -> scoring -> advantages
  const { policyLoss, valueLoss, metrics } = trainer.trainRlhf(experience);
  const { reward = 0, kl = 0 } = metrics;
  console.log(`policy loss ${policyLoss.toFixed(4)}  value loss ${valueLoss.toFixed(4)}  reward ${reward.toFixed(3)}  KL ${kl.toFixed(3)}`);
}

await rlhf.actor.save(output);
await rlhf.tokenizer.save(output);
console.log(`the model is in ${output}; talk with it: tschat chat ${output}`);
