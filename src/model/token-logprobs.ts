import type { TensorHandle } from "../native/binding.ts";
import { softcap } from "../nn/functional.ts";
import { multiply } from "../nn/layer-product.ts";
import { noGrad, segment } from "../tensor/autograd.ts";
import { cat, indices } from "../tensor/create.ts";
import { operator } from "../tensor/operator.ts";
import { Tensor } from "../tensor/tensor.ts";
import { tidy } from "../tensor/tidy.ts";

const op = {
  tokenLogprobs: operator<TensorHandle[]>("tschat::token_logprobs"),
  tokenLogprobsBackward: operator<undefined>("tschat::token_logprobs_backward_"),
  addProduct: operator<undefined>("tschat::add_product_"),
};

/** Logits held at a time, in elements: 64 MiB in bfloat16. The whole [tokens, vocab] is never built, and never in another dtype. */
const LOGITS_PER_CHUNK = 2 ** 25;
/** Logits that may stay until backward needs them again, 160 MiB in bfloat16; more are computed again. */
const LOGITS_KEPT = 5 * 2 ** 24;

/** What log-probabilities are computed from. */
export interface TokenLogprobsInput {
  /** [n, width] hidden states, each the one that predicts the target beside it, with or without gradient. */
  hidden: Tensor;
  /** [vocab, width] weight of the head; its gradient is added in place to `weight.grad`. */
  weight: Tensor;
  /** [vocab] of the head; its gradient is added in place to `bias.grad`. */
  bias?: Tensor | undefined;
  /** Logits become cap * tanh(logits / cap) before all else. */
  logitSoftcap?: number | undefined;
  /** [n] int64. */
  targets: Tensor;
  /** Logits are divided by it, in (0, inf). */
  temperature?: number | undefined;
  /** Whether to give entropies too, which costs two more passes over the logits; default false. */
  entropies?: boolean | undefined;
}

/** How likely each given token was, and how open the choice. */
export interface TokenLogprobs {
  /** [n] float32, nats, with gradient where the inputs have one. */
  logprobs: Tensor;
  /** [n] float32, nats, no gradient: entropy of each predicted distribution; only when asked for. */
  entropies: Tensor | undefined;
}

/**
 * Log-probabilities of given tokens under the head, in chunks:
 *
 *     logits    = (hidden @ weight^T + bias) / temperature
 *     logprobs  = logits[target] - logsumexp(logits)
 *     entropies = logsumexp(logits) - sum(softmax(logits) * logits)
 *
 * With many tokens the chunks are computed again going backward: one more product with the head buys the memory of [n, vocab], which is
 * what limits the batch of a small model with a large vocabulary.
 */
export function tokenLogprobs(input: TokenLogprobsInput): TokenLogprobs {
  const { hidden, weight, bias, logitSoftcap: cap, targets, temperature = 1, entropies = false } = input;
  const total = hidden.shape[0] ?? 0, vocab = weight.shape[0] ?? 1;
  const chunk = Math.max(1, Math.floor(LOGITS_PER_CHUNK / vocab));
  const starts = Array.from({ length: Math.ceil(total / chunk) }, (_, i) => i * chunk);
  const part = (x: Tensor, start: number) => x.slice(0, start, Math.min(start + chunk, total));
  const logitsOf = (start: number) => {
    const logits = multiply(part(hidden, start).detach(), weight.detach(), bias?.detach());
    return cap === undefined ? logits : softcap(logits, cap);
  };
  const isKept = hidden.requiresGrad && total * vocab <= LOGITS_KEPT;

  const parts = noGrad(() => starts.map((start) => tidy(() => {
    const logits = logitsOf(start);
    const results = op.tokenLogprobs(logits.handle, part(targets, start).handle, temperature, entropies);
    return { results: results.map((handle) => new Tensor(handle)), logits: isKept ? logits : undefined };
  })));
  const [logprobs, logSums, ofEach] = noGrad(() => [0, 1, 2].map((which) => cat(parts.map(({ results }) => results[which] as Tensor)))) as [
    Tensor, Tensor, Tensor,
  ];

  const [joined] = segment([hidden, weight, ...(bias ? [bias] : [])], [logprobs], ([gradient]) => {
    const none = [undefined, ...(bias ? [undefined] : [])];
    if (!gradient) return [undefined, ...none];
    const [weightGradient, biasGradient] = [weight, bias].map((own) => (own?.requiresGrad ? own.grad : undefined));
    if (weight.requiresGrad && !weightGradient) throw new Error("internal: the head trains but has no gradient buffer");
    const hiddenGradients = starts.map((start, i) => tidy(() => {
      // d logprob / d logits = (onehot(target) - softmax(logits)) / temperature, written over the logits
      let logits = parts[i]?.logits ?? logitsOf(start);
      const slopes = cap === undefined ? undefined : logits.div(cap).pow(2).neg().add(1); // of cap * tanh(x / cap), by its result
      const [tokens, sums, slope] = [targets, logSums, gradient].map((x) => part(x, start).handle);
      op.tokenLogprobsBackward(logits.handle, tokens, sums, slope, temperature);
      if (slopes) logits = logits.mul(slopes);
      biasGradient?.add_(logits.to("float32").sum([0]));
      if (weightGradient) op.addProduct(weightGradient.handle, logits.transpose(0, 1).handle, part(hidden, start).detach().handle);
      const hiddenGradient = logits.matmul(weight.detach());
      logits.dispose();
      return hiddenGradient;
    }));
    return [hidden.requiresGrad ? cat(hiddenGradients) : undefined, ...none];
  });
  if (!joined) throw new Error("internal: a segment with one output gave none");
  return { logprobs: joined, entropies: entropies ? ofEach : undefined };
}

/** Log-probability of one token a row, without gradient: logits [n, vocab] -> n numbers, nats; the bits of `tokenLogprobs`. */
export function targetLogprobs(logits: Tensor, targets: readonly number[]): number[] {
  return noGrad(() => tidy(() => {
    const [logprobs] = op.tokenLogprobs(logits.handle, indices(targets).handle, 1, false).map((handle) => new Tensor(handle));
    return logprobs?.numbers() ?? [];
  }));
}
