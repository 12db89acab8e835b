import { arange } from "../tensor/create.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** What the loss on last tokens is computed from; nothing of it is written to. */
export interface LastTokenLossInput {
  /** [pairs] with gradient: score of each chosen sequence. */
  chosenScores: Tensor;
  /** [pairs] with gradient: score of each rejected sequence. */
  rejectedScores: Tensor;
  /** By how much the chosen score should exceed the rejected one: a number, or [pairs] where annotators gave grades. */
  margin?: number | Tensor | undefined;
  /** Weight of the squared sum of both scores, which keeps scores around 0 (arXiv:2312.09244). */
  centerCoefficient?: number | undefined;
  /** Pairs in the whole optimizer step, all micro-batches on all ranks; the pairs given when left out. */
  totalPairs?: number | undefined;
}

/**
 * Bradley-Terry loss on the scores of whole sequences (InstructGPT, arXiv:2203.02155, eq. 1), to be minimised,
 * [] float32 with gradient, to be summed over micro-batches and ranks:
 *
 *     loss = 1/totalPairs * sum over pairs of
 *            -log sigmoid(chosen - rejected - margin) + centerCoefficient * (chosen + rejected)^2
 */
export function lastTokenLoss(input: LastTokenLossInput): Tensor {
  const { margin = 0, centerCoefficient = 0 } = input;
  const chosen = input.chosenScores.to("float32");
  const rejected = input.rejectedScores.to("float32");
  const preference = chosen.sub(rejected).sub(margin).logSigmoid().neg();
  const center = chosen.add(rejected).pow(2).mul(centerCoefficient);
  return preference.add(center).sum().div(input.totalPairs ?? chosen.size);
}

/** Preference pairs as token ids and the reward model's output at every token; nothing of it is written to. */
export interface PairwiseLossInput {
  /** [pairs, seq] token ids of prompt and chosen answer, padded on the right. */
  chosen: Tensor;
  /** [pairs, seq] token ids of the same prompts and the rejected answers, padded on the right. */
  rejected: Tensor;
  /** [pairs, seq] with gradient: the reward model's output at each token of `chosen`. */
  chosenRewards: Tensor;
  /** [pairs, seq] with gradient: the same of `rejected`. */
  rejectedRewards: Tensor;
  padId: number;
  /** Tokens equal to `padId` that open every sequence without being padding: 1 for OPT, whose first token is its pad token; else 0. */
  numPaddingAtBeginning: number;
  /** "deepspeed-chat" for the original's objective over tokens; else `lastTokenLoss`. */
  parity?: "none" | "deepspeed-chat" | undefined;
  /** Pairs in the whole optimizer step, all micro-batches on all ranks; the pairs given when left out. */
  totalPairs?: number | undefined;
}

/** The loss of preference pairs and the scores that rank them. */
export interface PairwiseLoss {
  /** [] float32 with gradient, to be summed over micro-batches and ranks. */
  loss: Tensor;
  /** [pairs] float32: reward at the last token before the padding. */
  chosenScores: Tensor;
  /** [pairs] float32: reward at the last token before the padding. */
  rejectedScores: Tensor;
}

/**
 * Loss of preference pairs from the rewards at every token. With parity DeepSpeed-Chat's objective: in each pair the mean of
 * `-log sigmoid(chosen - rejected)` over the tokens from the first that differs to the end of the longer answer (the
 * shorter one takes part with its rewards on padding), then the mean over pairs. A pair of equal rows contributes log 2.
 *
 * Example: pad 0, chosen [5, 6, 7, 8], rejected [5, 6, 9, 0]: tokens 2 and 3 count; scores are chosenRewards[3], rejectedRewards[2].
 *
 * A pair that differs only behind its padding has no token to compare, and with parity its loss is NaN as in the original.
 */
export function pairwiseLoss(input: PairwiseLossInput): PairwiseLoss {
  const { chosen, rejected, padId, numPaddingAtBeginning, totalPairs } = input;
  const [pairs = 0, width = 0] = chosen.shape;
  const chosenRewards = input.chosenRewards.to("float32");
  const rejectedRewards = input.rejectedRewards.to("float32");
  const chosenEnd = endOf(chosen, padId, numPaddingAtBeginning);
  const rejectedEnd = endOf(rejected, padId, numPaddingAtBeginning);
  const chosenScores = chosenRewards.gather(1, chosenEnd.sub(1)).squeeze(1);
  const rejectedScores = rejectedRewards.gather(1, rejectedEnd.sub(1)).squeeze(1);
  if (input.parity !== "deepspeed-chat") {
    return { loss: lastTokenLoss({ chosenScores, rejectedScores, totalPairs }), chosenScores, rejectedScores };
  }

  const numEqual = chosen.notEqual(rejected).cumsum(1).equal(0).sum([1], true); // [pairs, 1]
  const areEqual = numEqual.equal(width);
  const start = numEqual.clamp(undefined, width - 1);
  const end = chosenEnd.maximum(rejectedEnd).where(areEqual.logicalNot(), width);
  const positions = arange(0, width).toDevice(chosen.device);
  const counts = positions.less(start).logicalNot().logicalAnd(positions.less(end)); // [pairs, seq]
  // Masked before log sigmoid, so that a NaN on padding reaches neither the loss nor the gradient.
  const perToken = chosenRewards.sub(rejectedRewards).where(counts, 0).logSigmoid().neg();
  const perPair = perToken.where(counts, 0).sum([1]).div(counts.sum([1]));
  return { loss: perPair.sum().div(totalPairs ?? pairs), chosenScores, rejectedScores };
}

/** Tokens before the padding, [pairs, 1] int64: the position of the pad token that follows `numAtBeginning` others, or the width. */
function endOf(tokens: Tensor, padId: number, numAtBeginning: number): Tensor {
  return tokens.equal(padId).cumsum(1).less(numAtBeginning + 1).sum([1], true);
}
