// No step's loss and gradients depend on how a minibatch is cut and ordered: they are those of its sequences, each computed alone from
// whole logits, or from a padded batch.
import fc from "fast-check";
import { describe, test } from "vitest";
import type { PreferencePair, SftSample } from "../../src/data/encode.ts";
import { TrainEngine, type TrainEngineOptions } from "../../src/engine/train-engine.ts";
import { CausalLM } from "../../src/model/causal-lm.ts";
import type { PretrainedModel } from "../../src/model/pretrained.ts";
import { RewardModel } from "../../src/model/reward-model.ts";
import { policyLoss, valueLoss } from "../../src/ppo/losses.ts";
import type { Experience } from "../../src/ppo/records.ts";
import { update as updatePpo } from "../../src/ppo/update.ts";
import { pairwiseLoss } from "../../src/reward/pairwise-loss.ts";
import { update as updateReward } from "../../src/reward/train.ts";
import { update as updateSft } from "../../src/sft/train.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { fromNumbers, zeros } from "../../src/tensor/create.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { assertClose } from "../assert-close.ts";
import { writeTinyModel } from "../model/tiny-model.ts";
import { temporaryFolder } from "../temporary-folder.ts";

const VOCAB = 96; // of the tiny model, whose context is 64
const RUNS = { numRuns: 15 };

/** An engine whose step takes note of the gradients and moves nothing. */
class Probe<Model extends PretrainedModel> extends TrainEngine<Model> {
  gradients: number[] = [];

  constructor(model: Model) {
    const options: TrainEngineOptions = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0, gradientClip: 1 };
    super(model, options);
  }

  override step(): number {
    this.gradients = [...this.model.gradients().values()].flatMap((gradient) => gradient.numbers());
    this.model.zeroGradients();
    return 0;
  }

  /** Loss and gradients of the sum of these losses, one after another. */
  alone(losses: readonly (() => Tensor)[]): { loss: number; gradients: number[] } {
    const loss = losses.reduce((sum, lossOf) => sum + this.backward(lossOf()), 0);
    this.step();
    return { loss, gradients: this.gradients };
  }
}

/** Gradients relative to the largest of all: some, such as those of key biases, are zero but for rounding. */
function expectSame(actual: { loss: number; gradients: number[] }, expected: { loss: number; gradients: number[] }): void {
  assertClose(actual.loss, expected.loss, { rtol: 1e-5, atol: 1e-5 });
  const largest = expected.gradients.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  const scaled = (gradients: readonly number[]) => gradients.map((x) => x / (largest || 1));
  assertClose(scaled(actual.gradients), scaled(expected.gradients), { rtol: 0, atol: 1e-5 });
}

const loadActor = async () =>
  new Probe(await CausalLM.load(writeTinyModel(temporaryFolder(), { family: "llama" }), { dtype: "float32" }));
const loadCritic = async () =>
  new Probe(await RewardModel.withNewHead(writeTinyModel(temporaryFolder(), { family: "llama" }), { dtype: "float32", head: { seed: 1 } }));

const tokens = (minLength: number, maxLength: number) => fc.array(fc.integer({ min: 3, max: VOCAB - 1 }), { minLength, maxLength });
/** Samples in an order, and how many tokens over the longest sample a micro-batch may have. */
const minibatches = <Sample>(sample: fc.Arbitrary<Sample>) =>
  fc.array(sample, { minLength: 1, maxLength: 7 }).chain((samples) => fc.record({
    samples: fc.constant(samples),
    order: fc.shuffledSubarray(samples.map((_, i) => i), { minLength: samples.length }),
    slack: fc.integer({ min: 0, max: 60 }),
  }));
const pickAll = <Sample>(samples: readonly Sample[], order: readonly number[]) => order.flatMap((i) => samples[i] ?? []);
const sum = (numbers: readonly number[]) => numbers.reduce((total, x) => total + x, 0);

/** Log-probabilities of tokens 1 and later of one row alone, from its whole logits: [seq - 1] float32. */
function plainLogprobs(model: CausalLM, row: readonly number[]): Tensor {
  const logits = model.forward([row]).reshape([row.length, VOCAB]).slice(0, 0, row.length - 1);
  return logits.logSoftmax(1).gather(1, fromNumbers(row.slice(1), [row.length - 1, 1], "int64")).squeeze(1);
}

describe("whatever the cut, the order and the lengths, loss and gradients", () => {
  test("of a minibatch of demonstrations are those of each alone, and of all padded", async () => {
    const actor = await loadActor();
    const sample: fc.Arbitrary<SftSample> = tokens(2, 20).chain((row) =>
      fc.array(fc.boolean(), { minLength: row.length, maxLength: row.length })
        .map((mask) => ({ tokens: row, lossMask: [...mask.slice(0, -1), true] })));
    fc.assert(fc.property(minibatches(sample), ({ samples, order, slack }) => {
      const counted = sum(samples.map(({ lossMask }) => lossMask.slice(1).filter(Boolean).length));
      const masked = (logprobs: Tensor, rows: readonly (readonly boolean[])[]) =>
        logprobs.maskedSum(fromNumbers(rows.flat().map(Number), logprobs.shape, "bool")).div(-counted);
      const alone = actor.alone(samples.map(({ tokens: row, lossMask }) => () =>
        masked(plainLogprobs(actor.model, row), [lossMask.slice(1)])));
      const width = Math.max(...samples.map(({ tokens: row }) => row.length));
      const pad = <Item>(row: readonly Item[], fill: Item) => [...row, ...new Array<Item>(width - row.length).fill(fill)];
      const padded = actor.alone([() => masked(
        actor.model.logprobs(samples.map((s) => pad(s.tokens, 0)), { attentionMask: samples.map((s) => pad(s.tokens.map(() => 1), 0)) }),
        samples.map(({ lossMask }) => pad(lossMask, false).slice(1)),
      )]);
      const { loss = Number.NaN } = updateSft(actor, pickAll(samples, order), { microBatchTokens: width + slack }, [0, 0]);
      expectSame({ loss, gradients: actor.gradients }, alone);
      expectSame(padded, alone);
    }), RUNS);
  });

  test.each(["last-token", "deepspeed-chat"] as const)("of preferences are those of each pair alone: %s", async (objective) => {
    const critic = await loadCritic();
    const parts = fc.tuple(tokens(1, 8), tokens(1, 10), tokens(1, 10));
    const pair: fc.Arbitrary<PreferencePair> = parts.map(([prompt, chosen, rejected]) => ({
      // They differ at the first token of the answer, as the original's objective expects of a pair.
      chosen: [...prompt, 1, ...chosen], rejected: [...prompt, 2, ...rejected], promptLength: prompt.length,
    }));
    fc.assert(fc.property(minibatches(pair), ({ samples, order, slack }) => {
      const alone = critic.alone(samples.map(({ chosen, rejected }) => () => {
        const width = Math.max(chosen.length, rejected.length);
        const grid = (row: readonly number[]) => [...row, ...new Array<number>(width - row.length).fill(0)];
        const rewards = [chosen, rejected].map((row) => critic.model.values([grid(row)]).reshape([1, width])) as [Tensor, Tensor];
        const ids = [chosen, rejected].map((row) => fromNumbers(grid(row), [1, width], "int64")) as [Tensor, Tensor];
        return pairwiseLoss({
          chosen: ids[0], rejected: ids[1], chosenRewards: rewards[0], rejectedRewards: rewards[1], padId: 0, numPaddingAtBeginning: 0,
          parity: objective === "deepspeed-chat" ? "deepspeed-chat" : "none", totalPairs: samples.length,
        }).loss;
      }));
      const microBatchTokens = Math.max(...samples.map(({ chosen, rejected }) => chosen.length + rejected.length)) + slack;
      const config = { objective, centerRewards: 0, numPaddingAtBeginning: 0, padId: 0, microBatchTokens };
      const { loss = Number.NaN } = updateReward(critic, pickAll(samples, order), config, [0, 0]);
      expectSame({ loss, gradients: critic.gradients }, alone);
    }), RUNS);
  });

  test("of an update of PPO are those of each answer alone, of the actor and of the critic", async () => {
    const actor = await loadActor(), critic = await loadCritic();
    const number = fc.integer({ min: -2000, max: 2000 }).map((x) => x / 1000);
    const answer = fc.tuple(tokens(1, 10), tokens(1, 8)).chain(([prompt, response]) => {
      const each = fc.array(number, { minLength: response.length, maxLength: response.length });
      return fc.record({ prompt: fc.constant(prompt), response: fc.constant(response), advantages: each, values: each, returns: each });
    });
    type Answer = typeof answer extends fc.Arbitrary<infer T> ? T : never;
    const clip = { clipRange: 0.2, valueClipRange: 0.2 };
    const oldLogprobs = ({ prompt, response }: Answer) =>
      noGrad(() => plainLogprobs(actor.model, [...prompt, ...response]).slice(0, prompt.length - 1).numbers());
    const experienceOf = (answers: readonly Answer[]): Experience => {
      const width = Math.max(...answers.map(({ response }) => response.length));
      const shape = [answers.length, width];
      const grid = (rows: readonly (readonly number[])[], dtype: "float32" | "bool" = "float32") =>
        fromNumbers(rows.flatMap((row) => [...row, ...new Array<number>(width - row.length).fill(0)]), shape, dtype);
      const logprobs = grid(answers.map(oldLogprobs));
      return {
        prompts: answers.map(({ prompt }) => prompt), responses: answers.map(({ response }) => response), finishReasons: [], endToken: 2,
        responseMask: grid(answers.map(({ response }) => response.map(() => 1)), "bool"), samplingLogprobs: logprobs,
        oldLogprobs: logprobs, referenceLogprobs: logprobs, values: grid(answers.map(({ values }) => values)),
        scores: zeros([answers.length]), rewards: zeros(shape), advantages: grid(answers.map(({ advantages }) => advantages)),
        returns: grid(answers.map(({ returns }) => returns)),
      };
    };
    fc.assert(fc.property(minibatches(answer), ({ samples, order, slack }) => {
      const totalTokens = sum(samples.map(({ response }) => response.length));
      const row = (numbers: readonly number[]) => fromNumbers(numbers, [numbers.length], "float32");
      const ones = (length: number) => fromNumbers(new Array<number>(length).fill(1), [length], "bool");
      const ofActor = actor.alone(samples.map((one) => () => policyLoss({
        logprobs: plainLogprobs(actor.model, [...one.prompt, ...one.response]).slice(0, one.prompt.length - 1),
        oldLogprobs: row(oldLogprobs(one)), advantages: row(one.advantages), responseMask: ones(one.response.length), ...clip, totalTokens,
      }).loss));
      const ofCritic = critic.alone(samples.map((one) => () => valueLoss({
        values: critic.model.values([[...one.prompt, ...one.response]])
          .slice(0, one.prompt.length - 1, one.prompt.length - 1 + one.response.length),
        oldValues: row(one.values), returns: row(one.returns), responseMask: ones(one.response.length), ...clip, totalTokens,
      }).loss));
      const microBatchTokens = Math.max(...samples.map(({ prompt, response }) => prompt.length + response.length)) + slack;
      const { policyLoss: loss = Number.NaN, valueLoss: ofValues = Number.NaN } = updatePpo(
        actor, critic, experienceOf(pickAll(samples, order)), {
          ...clip, miniBatchSize: samples.length, microBatchTokens, ppoEpochs: 1, temperature: 1, rolloutWeights: "same", importanceCap: 2,
          seed: 1, actorLearningRate: 0, criticLearningRate: 0, updatesActor: true,
        },
      );
      expectSame({ loss, gradients: actor.gradients }, ofActor);
      expectSame({ loss: ofValues, gradients: critic.gradients }, ofCritic);
    }), RUNS);
  });
});
