import { join } from "node:path";
import { expect, test } from "vitest";
import { completeConfig } from "../../src/config/resolve.ts";
import { HybridEngine } from "../../src/engine/hybrid-engine.ts";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { type SftConfig, sftSettings } from "../../src/sft/config.ts";
import { trainSft } from "../../src/sft/train.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { type TinyModelOptions, writeTinyModel } from "../model/tiny-model.ts";
import { MemoryRun, writeJsonl } from "../pipeline/memory-run.ts";
import { temporaryFolder } from "../temporary-folder.ts";

const demonstrations = [
  ["the sky", "blue"], ["the grass", "green"], ["the sun", "yellow"], ["snow", "white"], ["coal", "black"],
  ["a rose", "red"], ["a carrot", "orange"], ["a plum", "purple"], ["ash", "grey"], ["wood", "brown"],
] as const;

test.each<[string, TinyModelOptions["family"], number, Partial<SftConfig>]>([
  ["llama", "llama", 0.05, {}], ["opt", "opt", 0.05, {}],
  // The head and the norm before it stay, so that no logit can be far above the others.
  ["llama, adapters alone", "llama", 0.45, { loraRank: 8, loraAlpha: 32, maxSteps: 120 }],
  ["llama, adapters, norms and embeddings", "llama", 0.05, { loraRank: 8, loraAlpha: 32, onlyLora: false }],
  ["opt, adapters with dropout", "opt", 1, { loraRank: 8, loraAlpha: 32, loraDropout: 0.02, maxSteps: 120 }],
])(
  "SFT overfits ten demonstrations in 60 steps or 120: the loss falls from above 4, and greedy answers are the demonstrated ones (%s)",
  async (_name, family, limit, settings) => {
    const folder = temporaryFolder();
    const records = demonstrations.map(([prompt, completion]) => ({ prompt, completion }));
    const data = writeJsonl(join(folder, "data.jsonl"), records);
    const config = completeConfig(sftSettings, {
      model: writeTinyModel(join(folder, "tiny"), { family, tokenizer: true, config: { max_position_embeddings: 128 } }),
      output: join(folder, "run"), data: [data], evalData: data, dtype: "float32", seed: 1,
      maxSeqLen: 128, miniBatchSize: 10, maxSteps: 60, learningRate: 1e-2, ...settings,
    });
    const run = new MemoryRun(config.output);
    await trainSft(config, run);
    const losses = run.series("loss");
    expect(losses[0]).toBeGreaterThan(4);
    expect(losses.at(-1)).toBeLessThan(limit);

    const [model, tokenizer] = [await CausalLM.load(run.modelFolder, { dtype: "float32" }), await Tokenizer.load(run.modelFolder)];
    const prompts = await Promise.all(demonstrations.map(([content]) => tokenizer.encodePrompt([{ role: "user", content }])));
    // Without eosTokenId: the saved generation configuration must name the end of turn.
    const { responses, finishReasons } = new HybridEngine(model).generate(prompts, { temperature: 0, maxNewTokens: 12 });
    expect(responses.map((response) => tokenizer.decode(response))).toEqual(demonstrations.map(([, answer]) => answer));
    expect(new Set(finishReasons)).toEqual(new Set(["eos"]));
  },
);
