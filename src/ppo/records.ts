import type { FinishReason } from "../engine/request.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Message } from "../tokenizer/message.ts";

/** A prompt: its tokens, or also the messages, which a reward model with another tokenizer reads; `data.encodePrompts` gives both. */
export type Prompt = readonly number[] | { readonly tokens: readonly number[]; readonly messages: readonly Message[] | undefined };

/**
 * Sampled answers. Example: prompt 5 6, answers 7 8 2 and 9 (cut off), end token 2:
 *
 *     {
 *       prompts: [[5, 6], [5, 6]], responses: [[7, 8, 2], [9]], responseMask: [[1, 1, 1], [1, 0, 0]],
 *       samplingLogprobs: [[-0.1, -2.3, -0.7], [-1.1, 0, 0]], finishReasons: ["eos", "length"], endToken: 2,
 *     }
 */
export interface Rollout {
  readonly prompts: readonly (readonly number[])[];
  /** With the end token, where there was one. */
  readonly responses: readonly (readonly number[])[];
  /** [batch, response] bool: true on generated tokens up to and including the end token. */
  readonly responseMask: Tensor;
  /** [batch, response] float32, nats: each response token as generation computed it; 0 where `responseMask` is false. */
  readonly samplingLogprobs: Tensor;
  readonly finishReasons: readonly FinishReason[];
  /** The token that ends an answer. */
  readonly endToken: number;
}

/** A rollout with what all models say of it; no gradients. */
export interface Scored extends Rollout {
  /** [batch, response] float32, nats: each response token under the actor that generated it; 0 where `responseMask` is false. */
  readonly oldLogprobs: Tensor;
  /** [batch, response] float32, nats: the same under the reference. */
  readonly referenceLogprobs: Tensor;
  /** [batch, response] float32: the critic's value before each response token. */
  readonly values: Tensor;
  /** [batch] float32: the reward model's score of prompt and response, read at the end token, which a cut answer is given for it. */
  readonly scores: Tensor;
}

/** A scored rollout with what the update learns from. */
export interface Experience extends Scored {
  /** [batch, response] float32: KL penalty, and the score at the last token. */
  readonly rewards: Tensor;
  /** [batch, response] float32. */
  readonly advantages: Tensor;
  /** [batch, response] float32. */
  readonly returns: Tensor;
}
