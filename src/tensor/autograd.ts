import { binding } from "../native/binding.ts";
import { Tensor } from "./tensor.ts";
import { refusePromise } from "./tidy.ts";

function withGrad<Result>(name: string, enabled: boolean, body: () => Result): Result {
  const before = binding.setGradEnabled(enabled);
  try {
    const result = body();
    refusePromise(name, result);
    return result;
  } finally {
    binding.setGradEnabled(before);
  }
}

/**
 * Runs `body` without recording gradients.
 *
 * @throws {TypeError} when `body` returns a promise: grad mode belongs to the thread and would leak across an await
 */
export function noGrad<Result>(body: () => Result): Result {
  return withGrad("noGrad", false, body);
}

/** Runs `body` with gradients recorded, inside a `noGrad` or a segment's backward. */
export function enableGrad<Result>(body: () => Result): Result {
  return withGrad("enableGrad", true, body);
}

/** Whether gradients are recorded now. */
export function gradEnabled(): boolean {
  const enabled = binding.setGradEnabled(true);
  binding.setGradEnabled(enabled);
  return enabled;
}

/**
 * Joins `outputs`, computed without gradients, to the graph as if one function had made them from `inputs`.
 * `backward` gets one gradient (or undefined) per output and returns one (or undefined) per input.
 */
export function segment(
  inputs: readonly Tensor[],
  outputs: readonly Tensor[],
  backward: (gradients: (Tensor | undefined)[]) => (Tensor | undefined)[],
): Tensor[] {
  const handles = binding.segment(
    inputs.map((x) => x.handle),
    outputs.map((y) => y.handle),
    (gradients) => backward(gradients.map((g) => (g ? new Tensor(g) : undefined))).map((g) => g?.handle ?? null),
  );
  return handles.map((handle) => new Tensor(handle));
}

/** Reseeds libtorch's default generators. */
export function manualSeed(seed: number): void {
  binding.manualSeed(seed);
}
