import type { CausalLM } from "../model/causal-lm.ts";
import type { RewardModel } from "../model/reward-model.ts";
import { indexCopy } from "../nn/functional.ts";
import { indices, zeros } from "../tensor/create.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Rollout } from "./records.ts";

/** Rows of one forward: prompts with their responses. */
export interface ForwardRows {
  readonly prompts: readonly (readonly number[])[];
  readonly responses: readonly (readonly number[])[];
  /** Width of the grids that come out. */
  readonly width: number;
}

/** Rows of a rollout, as one forward takes them. */
export function pickRows({ prompts, responses, responseMask }: Rollout, rows: readonly number[]): ForwardRows {
  return { prompts: rows.map((i) => prompts[i] ?? []), responses: rows.map((i) => responses[i] ?? []), width: responseMask.shape[1] ?? 0 };
}

/** Each prompt with its response. */
export function joined({ prompts, responses }: Pick<ForwardRows, "prompts" | "responses">): number[][] {
  return prompts.map((prompt, i) => [...prompt, ...(responses[i] ?? [])]);
}

/** [rows, width] float32 each; 0 behind a response. */
export interface ResponseLogprobs {
  /** Nats, with gradient where the model trains. */
  logprobs: Tensor;
  /** Nats, no gradient; only when asked for. */
  entropies: Tensor | undefined;
}

/** Log-probability of every response token at the rollout's temperature. */
export function responseLogprobs(
  model: CausalLM, { prompts, responses, width }: ForwardRows, options: { temperature: number; entropies?: boolean },
): ResponseLogprobs {
  const rows = joined({ prompts, responses });
  const counts = rows.map((row, i) => row.map((_, t) => t >= (prompts[i]?.length ?? 0)));
  const packed = model.tokenLogprobs(rows, { counts, temperature: options.temperature, entropies: options.entropies ?? false });
  const toGrid = (x: Tensor) => scatter(x, responses, width);
  return { logprobs: toGrid(packed.logprobs), entropies: packed.entropies && toGrid(packed.entropies) };
}

/**
 * Value before every response token: the critic's output at the token in front of it, [rows, width] float32, with gradient where
 * it trains.
 */
export function responseValues(critic: RewardModel, { prompts, responses, width }: ForwardRows): Tensor {
  const rows = joined({ prompts, responses });
  const picked: number[] = [];
  let start = 0;
  for (const [i, row] of rows.entries()) {
    const promptLength = prompts[i]?.length ?? 0;
    for (let t = promptLength; t < row.length; t++) picked.push(start + t - 1);
    start += row.length;
  }
  return scatter(critic.values(rows, picked), responses, width);
}

/** One number a response token, in packed order, into a [rows, width] grid. */
function scatter(packed: Tensor, responses: readonly (readonly number[])[], width: number): Tensor {
  const places = responses.flatMap((response, row) => response.map((_, t) => row * width + t));
  return indexCopy(zeros([responses.length * width]), indices(places), packed).reshape([responses.length, width]);
}
