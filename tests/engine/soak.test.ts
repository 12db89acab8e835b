import { expect, test } from "vitest";
import { HybridEngine } from "../../src/engine/hybrid-engine.ts";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { collectGarbage, tensorMemory } from "../../src/tensor/system.ts";
import { writeTinyModel } from "../model/tiny-model.ts";
import { temporaryFolder } from "../temporary-folder.ts";

test("10,000 requests leave the memory as the first 1,000 did", async () => {
  const folder = writeTinyModel(temporaryFolder(), { family: "llama", config: { num_hidden_layers: 1 } });
  const engine = new HybridEngine(await CausalLM.load(folder, { dtype: "float32" }), { numSlots: 64 });
  let requests = 0;
  /** 250 prompts of 1 to 40 tokens, 2 answers of 1 to 8 tokens to each. */
  const round = () => {
    const promptOf = (i: number) => Array.from({ length: 1 + ((requests + 7 * i) % 40) }, (_, t) => 5 + ((i + t) % 90));
    const prompts = Array.from({ length: 250 }, (_, i) => promptOf(i));
    const maxNewTokens = prompts.map((_, i) => 1 + ((requests + i) % 8));
    const { responses } = engine.generate(prompts, { maxNewTokens, samplesPerPrompt: 2, eosTokenId: null, firstRequest: requests });
    expect(responses.map(({ length }) => length)).toEqual(maxNewTokens.flatMap((n) => [n, n]));
    requests += responses.length;
  };
  const after = async (total: number) => {
    while (requests < total) {
      round();
      await new Promise(setImmediate);
    }
    collectGarbage();
    return { ...tensorMemory(), ...engine.cachePages };
  };
  const early = await after(1_000);
  expect(early.used).toBe(0);
  expect(await after(10_000)).toEqual(early);
}, 60_000);
