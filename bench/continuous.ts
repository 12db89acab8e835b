import type { CommandSpec } from "../src/config/command.ts";
import { group, integer } from "../src/config/fields.ts";
import { flagLayer, resolve } from "../src/config/resolve.ts";
import { ConfigError } from "../src/errors.ts";
import { CausalLM, HybridEngine } from "../src/index.ts";
import { geometricLengths } from "./lib/answer-lengths.ts";
import { modelField, runFields } from "./lib/flags.ts";
import { checkContext } from "./lib/generation-run.ts";
import { randomPrompts } from "./lib/prompts.ts";
import { openRun } from "./lib/run.ts";
import { median, medianRatio, secondsOf } from "./lib/statistics.ts";

const fields = {
  ...modelField,
  ...group("Requests:", {
    requests: integer({ default: 256, min: 1, help: "prompts to answer" }),
    slots: integer({ default: 32, min: 1, help: "sequences at the same time" }),
    promptLength: integer({ default: 64, min: 1, help: "tokens of every prompt" }),
    meanTokens: integer({ default: 64, min: 2, help: "mean of the answers' geometrically distributed lengths, before they are cut" }),
    maxTokens: integer({ default: 256, min: 2, help: "where the longest answers are cut" }),
    seed: integer({ default: 1, min: 0, help: "of the lengths" }),
  }),
  ...runFields,
};

/** `bench continuous`: continuous batching against fixed batches, on answers of unequal lengths. */
export const continuousCommand: CommandSpec = {
  name: "continuous",
  summary: "continuous batching against fixed batches",
  description: "Answers requests of unequal lengths in three ways, in turn: a slot takes the next prompt as soon as its answer ends " +
    "(continuous); groups of as many as there are slots, each until its longest answer ends, every row running along (fixed); and such " +
    "groups whose ended rows leave while no new prompt enters (shrinking). Only the tokens that were asked for count.",
  examples: [
    "npm run bench -- continuous --model SmolLM2-135M-Instruct",
    "npm run bench -- continuous --model SmolLM2-135M-Instruct --slots 8 --requests 64 --repeats 1",
  ],
  fields,
  run: async (flags) => {
    const config = resolve({ name: "continuous", fields }, [flagLayer(flags)]);
    const { shape, dtype, report } = await openRun("continuous", config);
    checkContext(shape, config.promptLength, config.maxTokens);
    if (config.meanTokens > config.maxTokens) throw new ConfigError("--mean-tokens: expected at most --max-tokens");
    const { requests, slots, promptLength, repeats } = config;
    const model = await CausalLM.load(config.model, { dtype });
    const prompts = randomPrompts(requests, promptLength, shape.vocabSize);
    const lengths = geometricLengths({ count: requests, mean: config.meanTokens, max: config.maxTokens, seed: config.seed });
    const usefulTokens = lengths.reduce((sum, length) => sum + length, 0);
    const engine = new HybridEngine(model, { numSlots: slots });
    const answer = (from: number, to: number, maxNewTokens: readonly number[]): void => {
      engine.generate(prompts.slice(from, to), { maxNewTokens, temperature: 1, eosTokenId: null });
    };
    const groups = Array.from({ length: Math.ceil(requests / slots) }, (_, i) => [i * slots, Math.min(requests, (i + 1) * slots)] as const);
    const longest = groups.map(([from, to]) => Math.max(...lengths.slice(from, to)));
    const rates = { continuous: [] as number[], fixed: [] as number[], shrinking: [] as number[] };
    answer(0, Math.min(slots, requests), prompts.slice(0, slots).map(() => 2));
    for (let i = 0; i < repeats; i++) {
      rates.continuous.push(usefulTokens / secondsOf(() => answer(0, requests, lengths)));
      rates.fixed.push(usefulTokens / secondsOf(() => {
        for (const [g, [from, to]] of groups.entries()) answer(from, to, Array(to - from).fill(longest[g]));
      }));
      rates.shrinking.push(usefulTokens / secondsOf(() => {
        for (const [from, to] of groups) answer(from, to, lengths.slice(from, to));
      }));
    }
    report.add({
      requests, slots, promptLength, usefulTokens,
      fixedTokens: groups.reduce((sum, [from, to], g) => sum + (to - from) * (longest[g] ?? 0), 0),
      continuousTokensPerSecond: median(rates.continuous),
      fixedTokensPerSecond: median(rates.fixed),
      shrinkingTokensPerSecond: median(rates.shrinking),
      fixedRatio: medianRatio(rates.continuous, rates.fixed),
      shrinkingRatio: medianRatio(rates.continuous, rates.shrinking),
    });
    report.end();
    return 0;
  },
};
