import { ppoSettings } from "../ppo/config.ts";
import { stepCommand } from "./step-command.ts";

/** `tschat ppo` */
export const ppoCommand = stepCommand({
  settings: ppoSettings,
  summary: "step 3: train the model with PPO against the reward model",
  description: `Step 3 of 3: PPO. The actor answers prompts, the reward model scores the answers, and the actor learns to score higher
without moving far from the SFT model.`,
  examples: [
    "tschat ppo --actor runs/first/sft/model --reward-model runs/first/reward/model --data prompts.jsonl --output runs/first/ppo",
    "tschat ppo --config train.yaml --kl-coef 0.1 --max-steps 50",
    "tschat ppo --config train.yaml --parity deepspeed-chat",
  ],
  load: async () => (await import("../ppo/train.ts")).trainPpo,
});
