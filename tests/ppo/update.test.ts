import { describe, expect, test } from "vitest";
import { checkpointingRunner } from "../../src/model/layer-runner.ts";
import { type ExperienceOptions, shapeExperience } from "../../src/ppo/experience.ts";
import type { Experience } from "../../src/ppo/records.ts";
import type { RlhfEngine } from "../../src/ppo/rlhf-engine.ts";
import { rollOut } from "../../src/ppo/rollout.ts";
import { score } from "../../src/ppo/scoring.ts";
import { type UpdateOptions, update } from "../../src/ppo/update.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { indices } from "../../src/tensor/create.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { assertClose } from "../assert-close.ts";
import { failure } from "../failure.ts";
import { temporaryFolder } from "../temporary-folder.ts";
import { loadTinyRlhf, prompts } from "./tiny-rlhf.ts";

const shaping: ExperienceOptions = {
  klCoef: 0.1,
  rewardClip: 5,
  missingEosPenalty: 0,
  whitenRewards: false,
  whitenAdvantages: true,
  gamma: 1,
  gaeLambda: 0.95,
  parity: "none",
};
const options: UpdateOptions = {
  miniBatchSize: 8,
  microBatchTokens: 4096,
  ppoEpochs: 1,
  clipRange: 0.2,
  valueClipRange: 0.2,
  temperature: 1,
  rolloutWeights: "same",
  importanceCap: 2,
  seed: 1,
  actorLearningRate: 1e-3,
  criticLearningRate: 1e-3,
  updatesActor: true,
};

/** An experience of eight answers, scored in the cut that `options` name. */
function experienceOf(rlhf: RlhfEngine, updateOptions: UpdateOptions = options): Experience {
  return scoredForUpdate(rlhf, updateOptions).experience;
}

/** The same with the critic's first forward. */
function scoredForUpdate(rlhf: RlhfEngine, scoring: UpdateOptions): { experience: Experience; firstValues: Tensor } {
  const rollout = rollOut(rlhf.generator, prompts, {
    maxNewTokens: 8,
    minNewTokens: 0,
    temperature: scoring.temperature,
    samplesPerPrompt: 1,
    seed: 1,
    endToken: 2,
    promptsBefore: 0,
  });
  const models = { actor: rlhf.actor.model, reference: rlhf.reference, critic: rlhf.critic.model, rewardModel: rlhf.rewardModel };
  const { scored, firstValues } = score(models, rollout, scoring);
  return { experience: shapeExperience(scored, shaping), firstValues };
}

/** The same experience with its answers in another order. */
function reordered(experience: Experience, order: readonly number[]): Experience {
  const pick = <Item>(items: readonly Item[]) => order.map((i) => items[i]).filter((item) => item !== undefined);
  const select = (
    name:
      | "responseMask" | "samplingLogprobs" | "oldLogprobs" | "referenceLogprobs" | "values" | "rewards" | "advantages" | "returns"
      | "scores",
  ) => experience[name].indexSelect(0, indices(order));
  return {
    prompts: pick(experience.prompts),
    responses: pick(experience.responses),
    finishReasons: pick(experience.finishReasons),
    endToken: experience.endToken,
    responseMask: select("responseMask"),
    samplingLogprobs: select("samplingLogprobs"),
    oldLogprobs: select("oldLogprobs"),
    referenceLogprobs: select("referenceLogprobs"),
    values: select("values"),
    scores: select("scores"),
    rewards: select("rewards"),
    advantages: select("advantages"),
    returns: select("returns"),
  };
}

const weightsOf = ({ model }: RlhfEngine["actor"] | RlhfEngine["critic"]) => model.blocks.flatMap(({ flat }) => flat.numbers());
const sum = (values: readonly number[]) => values.reduce((total, x) => total + x, 0);

describe("the losses of the first minibatch", () => {
  test("are minus the mean advantage and half the mean squared error of the critic, since nothing has moved yet", async () => {
    const rlhf = await loadTinyRlhf(temporaryFolder());
    const experience = experienceOf(rlhf);
    const tokens = sum(experience.responses.map((response) => response.length));
    const [advantages, values, returns] = [experience.advantages.numbers(), experience.values.numbers(), experience.returns.numbers()];
    const metrics = update(rlhf.actor, rlhf.critic, experience, options);
    assertClose(metrics.policyLoss ?? Number.NaN, -sum(advantages) / tokens, { atol: 1e-6 }); // whitened: near 0
    assertClose(metrics.valueLoss ?? Number.NaN, (0.5 * sum(values.map((value, i) => (value - (returns[i] ?? 0)) ** 2))) / tokens, {
      rtol: 1e-5,
    });
    expect(metrics).toMatchObject({ clipFraction: 0, valueClipFraction: 0, passes: 1 });
    expect(metrics.actorGradientNorm).toBeGreaterThan(0);
    expect(metrics.entropy).toBeGreaterThan(0);
  });
});

describe("losses, gradient norms and steps", () => {
  test.each<[string, Partial<UpdateOptions>, number[]]>([
    ["several micro-batches", { microBatchTokens: 24 }, [0, 1, 2, 3, 4, 5, 6, 7]],
    ["another order", {}, [3, 7, 0, 5, 2, 6, 1, 4]],
    ["another order in micro-batches", { microBatchTokens: 24 }, [7, 6, 5, 4, 3, 2, 1, 0]],
  ])("of a minibatch do not depend on cut and order: %s", async (_name, changes, order) => {
    // With a large epsilon Adam's step is proportional to the gradient, so weights compare gradients.
    const adam = { adamEpsilon: 1e4, gradientClip: 1e9 };
    const rates = { actorLearningRate: 1e3, criticLearningRate: 1e3 };
    const [one, other] = [await loadTinyRlhf(temporaryFolder(), adam), await loadTinyRlhf(temporaryFolder(), adam)];
    const expected = update(one.actor, one.critic, experienceOf(one), { ...options, ...rates });
    const actual = update(other.actor, other.critic, reordered(experienceOf(other), order), { ...options, ...rates, ...changes });
    for (const name of ["valueLoss", "entropy", "actorGradientNorm", "criticGradientNorm"])
      assertClose(actual[name] ?? Number.NaN, expected[name] ?? Number.NaN, { rtol: 3e-6 });
    assertClose(actual.policyLoss ?? Number.NaN, expected.policyLoss ?? Number.NaN, { atol: 1e-6 });
    for (const part of ["actor", "critic"] as const) assertClose(weightsOf(other[part]), weightsOf(one[part]), { rtol: 0, atol: 1e-6 });
  });
});

describe("the critic's forward that scoring has run", () => {
  test.each<[string, Partial<UpdateOptions>, number]>([
    ["one micro-batch", {}, 8],
    ["several micro-batches", { microBatchTokens: 40 }, 3],
    ["minibatches of 3, two passes", { miniBatchSize: 3, ppoEpochs: 2 }, 3],
  ])("is not run again, and changes no bit of the update: %s", async (_name, changes, numRows) => {
    const changed = { ...options, ...changes };
    const [one, other] = [await loadTinyRlhf(temporaryFolder()), await loadTinyRlhf(temporaryFolder())];
    const plain = update(one.actor, one.critic, experienceOf(one, changed), changed);
    const { experience, firstValues } = scoredForUpdate(other, changed);
    expect(firstValues.shape[0]).toBe(numRows);
    const { model } = other.critic, { values } = model;
    let sequences = 0;
    model.values = (rows, only) => {
      sequences += rows.length;
      return values.call(model, rows, only);
    };
    expect(update(other.actor, other.critic, experience, changed, firstValues)).toEqual(plain);
    expect(sequences).toBe(8 * changed.ppoEpochs - numRows);
    for (const part of ["actor", "critic"] as const) expect(weightsOf(other[part])).toEqual(weightsOf(one[part]));
  });
});

describe("on the first minibatch", () => {
  test.each(["float32", "bfloat16"] as const)("every ratio is 1 within 1e-5, in several micro-batches and %s", async (dtype) => {
    const cut = { ...options, microBatchTokens: 24 };
    const rlhf = await loadTinyRlhf(temporaryFolder(), { dtype });
    expect(rlhf.actor.model.dtype).toBe(dtype);
    const { ratioMax, approxKl } = update(rlhf.actor, rlhf.critic, experienceOf(rlhf, cut), cut);
    expect(ratioMax).toBeLessThanOrEqual(1e-5);
    assertClose(approxKl ?? Number.NaN, 0, { atol: 1e-9 });
  });

  test("it stays so after updates: scoring always sees the weights that are trained", async () => {
    const cut = { ...options, microBatchTokens: 24 };
    const rlhf = await loadTinyRlhf(temporaryFolder(), { dtype: "bfloat16" });
    for (let iteration = 0; iteration < 3; iteration++)
      expect(update(rlhf.actor, rlhf.critic, experienceOf(rlhf, cut), cut).ratioMax).toBeLessThanOrEqual(1e-5);
  });

  test("a ratio that is off is a TrainingError: the actor changed between scoring and update", async () => {
    const rlhf = await loadTinyRlhf(temporaryFolder());
    const experience = experienceOf(rlhf);
    noGrad(() => rlhf.actor.model.headWeight.mul_(1.01));
    const error = failure(() => update(rlhf.actor, rlhf.critic, experience, options));
    expect(error).toMatchObject({ name: "TrainingError", code: "E_TRAINING" });
    expect(error.message).toMatch(/^PPO: on the first minibatch a ratio differs from 1 by \d\.\de-\d, at most 0\.00001 can be rounding: /);
  });

  test("so is a ratio that is not a number", async () => {
    const rlhf = await loadTinyRlhf(temporaryFolder());
    const experience = experienceOf(rlhf);
    noGrad(() => rlhf.actor.model.headWeight.fill_(Number.NaN));
    expect(failure(() => update(rlhf.actor, rlhf.critic, experience, options))).toMatchObject({
      name: "TrainingError",
      code: "E_TRAINING",
    });
  });
});

describe("a loss that is not finite", () => {
  // After one step at this rate parameters are around 1e18: finite, but products of them are not.
  const wild = { ...options, ppoEpochs: 3 };

  test.each(["actor", "critic"] as const)("of the %s ends the update with the block that overflows", async (part) => {
    const rlhf = await loadTinyRlhf(temporaryFolder());
    const error = failure(() => update(rlhf.actor, rlhf.critic, experienceOf(rlhf), { ...wild, [`${part}LearningRate`]: 1e18 }));
    expect(error).toMatchObject({ name: "TrainingError", code: "E_TRAINING" });
    expect(error.message).toMatch(/^the loss became \S+ at step 2: the output of block "layer 0" is the first that is not finite; /);
  });

  test.each(["actor", "critic"] as const)("of the %s is skipped and counted where that is asked for; the other goes on", async (part) => {
    const rlhf = await loadTinyRlhf(temporaryFolder(), { onNonFinite: "skip" });
    const metrics = update(rlhf.actor, rlhf.critic, experienceOf(rlhf), { ...wild, [`${part}LearningRate`]: 1e18 });
    const ofActor = part === "actor" ? 2 : 0; // of three passes
    expect(metrics).toMatchObject({ passes: 3, actorSkippedSteps: ofActor, criticSkippedSteps: 2 - ofActor });
    expect([rlhf.actor.numSteps, rlhf.critic.numSteps]).toEqual([3 - ofActor, 1 + ofActor]);
  });
});

test("with gradient checkpointing an update is the same, bit for bit", async () => {
  const plain = await loadTinyRlhf(temporaryFolder());
  const checkpointing = await loadTinyRlhf(temporaryFolder(), { gradientCheckpointing: true });
  const cut = { ...options, microBatchTokens: 24, ppoEpochs: 2 };
  for (const rlhf of [plain, checkpointing]) update(rlhf.actor, rlhf.critic, experienceOf(rlhf, cut), cut);
  for (const part of ["actor", "critic"] as const) {
    expect(checkpointing[part].model.runner).toBe(checkpointingRunner);
    expect(weightsOf(checkpointing[part])).toEqual(weightsOf(plain[part]));
  }
});

describe("passes over a rollout", () => {
  test("take one optimizer step a minibatch, and as many passes as asked", async () => {
    const rlhf = await loadTinyRlhf(temporaryFolder());
    const several = { ...options, miniBatchSize: 3, ppoEpochs: 2 };
    const { passes, ratioMax } = update(rlhf.actor, rlhf.critic, experienceOf(rlhf, several), several);
    expect(passes).toBe(2);
    expect([rlhf.actor.numSteps, rlhf.critic.numSteps]).toEqual([6, 6]); // 3 + 3 + 2 answers, twice
    expect(ratioMax).toBeGreaterThan(1e-3);
  });

  test("end when the approximate KL of a minibatch exceeds the target", async () => {
    const fast = { ...options, ppoEpochs: 5, actorLearningRate: 1e-2 };
    const [free, bounded] = [await loadTinyRlhf(temporaryFolder()), await loadTinyRlhf(temporaryFolder())];
    expect(update(free.actor, free.critic, experienceOf(free), fast).passes).toBe(5);
    // The first pass has no KL; the second sees what the first did.
    expect(update(bounded.actor, bounded.critic, experienceOf(bounded), { ...fast, targetKl: 1e-3 }).passes).toBe(2);
    expect(bounded.actor.numSteps).toBe(2);
  });

  test("with the actor held leave it as it is, bit for bit, while the critic learns", async () => {
    const rlhf = await loadTinyRlhf(temporaryFolder());
    const [actor, critic] = [weightsOf(rlhf.actor), weightsOf(rlhf.critic)];
    const { ratioMax } = update(rlhf.actor, rlhf.critic, experienceOf(rlhf), { ...options, ppoEpochs: 3, updatesActor: false });
    expect(weightsOf(rlhf.actor)).toEqual(actor);
    expect(weightsOf(rlhf.critic)).not.toEqual(critic);
    expect(rlhf.actor.numSteps).toBe(0);
    expect(ratioMax).toBeLessThanOrEqual(1e-5);
  });

  test("leave reference and reward model alone", async () => {
    const rlhf = await loadTinyRlhf(temporaryFolder());
    const frozen = [rlhf.reference, rlhf.rewardModel].map(({ blocks }) => blocks.flatMap(({ flat }) => flat.numbers()));
    update(rlhf.actor, rlhf.critic, experienceOf(rlhf), options);
    expect([rlhf.reference, rlhf.rewardModel].map(({ blocks }) => blocks.flatMap(({ flat }) => flat.numbers()))).toEqual(frozen);
    expect(rlhf.reference.gradients().size).toBe(0);
  });
});
