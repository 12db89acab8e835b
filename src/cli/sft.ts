import { sftSettings } from "../sft/config.ts";
import { stepCommand } from "./step-command.ts";

/** `tschat sft` */
export const sftCommand = stepCommand({
  settings: sftSettings,
  summary: "step 1: fine-tune a model on demonstrations",
  description: "Step 1 of 3: supervised fine-tuning. The model learns to answer as the demonstrations do.",
  examples: [
    "tschat sft --model SmolLM2-135M-Instruct.gguf --data demonstrations.jsonl --output runs/first/sft",
    "tschat sft --model runs/first/sft/model --data more.jsonl.gz --output runs/second --epochs 2 --learning-rate 1e-5",
    "tschat sft --config train.yaml --max-steps 20",
  ],
  load: async () => (await import("../sft/train.ts")).trainSft,
});
