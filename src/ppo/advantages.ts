import { stack, zeros } from "../tensor/create.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { throughSlotAfterLast, type Parity } from "./parity.ts";
import { whiten } from "./whiten.ts";

/** What advantages are estimated from; nothing of it is written to. */
export interface AdvantagesInput {
  /** [batch, response] reward of each token, as `tokenRewards` gives it. */
  rewards: Tensor;
  /** [batch, response] the critic's value before each token, at the time of the rollout. */
  values: Tensor;
  /** [batch, response] true on generated tokens up to and including the end token. */
  responseMask: Tensor;
  /** Discount factor, in [0, 1]. */
  gamma: number;
  /** Trade of bias (0) against variance (1), in [0, 1]. */
  gaeLambda: number;
  /** Whether the advantages are whitened over all response tokens given; give the whole rollout. */
  whiten: boolean;
  /** "deepspeed-chat" lets the slot that follows the response take part, as the original does. */
  parity?: Parity | undefined;
}

/** [batch, response] float32 without gradient, 0 behind the response (with parity: behind the slot that follows it). */
export interface Advantages {
  advantages: Tensor;
  /** `advantages + values`, from the advantages before whitening. */
  returns: Tensor;
}

/**
 * Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438, eq. 16), backwards over the response:
 *
 *     delta[t]     = rewards[t] + gamma * values[t + 1] - values[t]
 *     advantage[t] = delta[t] + gamma * gaeLambda * advantage[t + 1]
 *
 * where `t + 1` is the next token that counts: a masked slot changes nothing, also inside a response (the words of a
 * tool between two turns of the model). Beyond the last token both are 0.
 *
 * Example: rewards [0, 1], values [0.5, 0.25], gamma 1, gaeLambda 0.5: advantages [0.125, 0.75], returns [0.625, 1].
 *
 * @throws {RangeError} when there are fewer than two response tokens to whiten
 */
export function estimateAdvantages(input: AdvantagesInput): Advantages {
  const { gamma, gaeLambda } = input;
  const responseMask = input.responseMask.to("bool");
  const counts = input.parity === "deepspeed-chat" ? throughSlotAfterLast(responseMask) : responseMask;
  // What does not count is zeroed first, so that a NaN there never enters.
  const rewards = input.rewards.to("float32").detach().where(counts, 0);
  const values = input.values.to("float32").detach().where(counts, 0);

  const [batch = 0, width = 0] = counts.shape;
  let nextValue = zeros([batch]).toDevice(values.device);
  let nextAdvantage = nextValue;
  const columns: Tensor[] = [];
  for (let t = width - 1; t >= 0; t--) {
    const [value, counted] = [values.select(1, t), counts.select(1, t)];
    const delta = rewards.select(1, t).add(nextValue.mul(gamma)).sub(value);
    nextAdvantage = delta.add(nextAdvantage.mul(gamma * gaeLambda)).where(counted, nextAdvantage);
    nextValue = value.where(counted, nextValue);
    columns.push(nextAdvantage);
  }
  const advantages = stack(columns.reverse(), 1).where(counts, 0);
  return { advantages: input.whiten ? whiten(advantages, responseMask) : advantages, returns: advantages.add(values) };
}
