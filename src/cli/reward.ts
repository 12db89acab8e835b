import { rewardSettings } from "../reward/config.ts";
import { stepCommand } from "./step-command.ts";

/** `tschat reward` */
export const rewardCommand = stepCommand({
  settings: rewardSettings,
  summary: "step 2: train a reward model on preferences",
  description: "Step 2 of 3: reward model. It learns to score the chosen answer of a pair above the rejected one.",
  examples: [
    "tschat reward --model runs/first/sft/model --data preferences.jsonl --output runs/first/reward",
    "tschat reward --config train.yaml --objective deepspeed-chat --num-padding-at-beginning 1",
  ],
  load: async () => (await import("../reward/train.ts")).trainReward,
});
