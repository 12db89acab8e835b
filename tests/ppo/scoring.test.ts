import { describe, expect, test } from "vitest";
import type { RlhfEngine } from "../../src/ppo/rlhf-engine.ts";
import { responseLogprobs, responseValues } from "../../src/ppo/response-forward.ts";
import { rollOut } from "../../src/ppo/rollout.ts";
import { cutRows, score, type ScoringOptions } from "../../src/ppo/scoring.ts";
import type { Scored } from "../../src/ppo/records.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { assertClose } from "../assert-close.ts";
import { temporaryFolder } from "../temporary-folder.ts";
import { loadTinyRlhf, prompts } from "./tiny-rlhf.ts";

const scoring: ScoringOptions = { temperature: 0.8, microBatchTokens: 24, rolloutWeights: "same" };

function scoreRollout(rlhf: RlhfEngine, options: Partial<ScoringOptions> = {}): Scored {
  const rollout = rollOut(rlhf.generator, prompts, {
    maxNewTokens: 8,
    minNewTokens: 0,
    temperature: 0.8,
    samplesPerPrompt: 1,
    seed: 1,
    endToken: 2,
    promptsBefore: 0,
  });
  const models = { actor: rlhf.actor.model, reference: rlhf.reference, critic: rlhf.critic.model, rewardModel: rlhf.rewardModel };
  return score(models, rollout, { miniBatchSize: 8, ...scoring, ...options }).scored;
}

describe("score", () => {
  test("gives what each model says of prompt and answer alone", async () => {
    const rlhf = await loadTinyRlhf(temporaryFolder());
    noGrad(() => rlhf.critic.model.blocks[1]?.flat.mul_(1.5)); // so that critic and reward model differ
    const scored = scoreRollout(rlhf);
    const width = scored.responseMask.shape[1] ?? 0;
    for (const [i, prompt] of scored.prompts.entries()) {
      const row = [...prompt, ...(scored.responses[i] ?? [])],
        length = row.length - prompt.length;
      const padded = (numbers: readonly number[]) => [...numbers, ...new Array<number>(width - length).fill(0)];
      const [logprobs] = noGrad(() => rlhf.actor.model.logprobs([row], { temperature: 0.8 })).toArray() as number[][];
      const values = noGrad(() => rlhf.critic.model.values([row])).numbers();
      const at = (tensor: Scored["values"]) => tensor.select(0, i).numbers();
      assertClose(at(scored.oldLogprobs), padded((logprobs ?? []).slice(prompt.length - 1)), { atol: 1e-5 });
      assertClose(at(scored.referenceLogprobs), at(scored.oldLogprobs), { atol: 1e-6 }); // actor and reference start equal
      assertClose(at(scored.values), padded(values.slice(prompt.length - 1, -1)), { atol: 1e-5 }); // before each answer token
    }
  });

  test("reads the reward model at the end token, which a cut answer is given; with parity where the answer was cut", async () => {
    const rlhf = await loadTinyRlhf(temporaryFolder());
    for (const parity of ["none", "deepspeed-chat"] as const) {
      const { prompts: asked, responses, finishReasons, scores } = scoreRollout(rlhf, { parity });
      expect(finishReasons).toContain("length");
      for (const [i, response] of responses.entries()) {
        const row = [...(asked[i] ?? []), ...response];
        const read = finishReasons[i] === "length" && parity === "none" ? [...row, 2] : row;
        assertClose(scores.select(0, i).item(), noGrad(() => rlhf.rewardModel.scoreRows([read])).item(), { atol: 1e-5 });
      }
    }
  });

  test("does not depend on the cut", async () => {
    const rlhf = await loadTinyRlhf(temporaryFolder());
    const [whole, cut] = [
      scoreRollout(rlhf, { microBatchTokens: 4096 }),
      scoreRollout(rlhf, { microBatchTokens: 16 }),
    ];
    for (const name of ["oldLogprobs", "referenceLogprobs", "values", "scores"] as const)
      assertClose(cut[name], whole[name], { atol: 1e-5 });
  });

  test("records no gradients", async () => {
    const scored = scoreRollout(await loadTinyRlhf(temporaryFolder()));
    for (const name of ["oldLogprobs", "referenceLogprobs", "values", "scores"] as const) expect(scored[name].requiresGrad).toBe(false);
  });
});

describe("the forwards over responses", () => {
  test("put each token in its column, with gradient where the model trains", async () => {
    const rlhf = await loadTinyRlhf(temporaryFolder());
    const rows = {
      prompts: [[5, 6, 7], [8]],
      responses: [
        [9, 10],
        [11, 12, 13],
      ],
      width: 4,
    };
    const { logprobs, entropies } = responseLogprobs(rlhf.actor.model, rows, { temperature: 1, entropies: true });
    if (!entropies) throw new Error("entropies were asked for");
    const values = responseValues(rlhf.critic.model, rows);
    for (const grid of [logprobs, entropies, values]) {
      expect(grid.shape).toEqual([2, 4]);
      const [first = [], second = []] = grid.detach().toArray() as number[][];
      expect([first.slice(2), second.slice(3)]).toEqual([[0, 0], [0]]);
      expect([...first.slice(0, 2), ...second.slice(0, 3)].every((x) => x !== 0)).toBe(true);
    }
    expect([logprobs.requiresGrad, values.requiresGrad]).toEqual([true, true]);
    expect(responseLogprobs(rlhf.reference, rows, { temperature: 1 }).logprobs.requiresGrad).toBe(false);
  });
});

test("cutRows keeps the order of a minibatch and the limit of tokens", () => {
  const rollout = { prompts: [[1, 2], [3], [4, 5, 6], [7]], responses: [[1], [2, 3], [4], [5, 6, 7]] }; // 3, 3, 4, 4 tokens
  expect(cutRows(rollout, [0, 1, 2, 3], 7)).toEqual([[0, 1], [2], [3]]);
  expect(cutRows(rollout, [2, 0, 1, 3], 8)).toEqual([
    [2, 0],
    [1, 3],
  ]);
});
