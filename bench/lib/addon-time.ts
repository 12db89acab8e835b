import { type Binding, binding, bindingNames } from "../../src/native/binding.ts";

/** Seconds of a run, and those of them that were spent in functions of the addon. */
export interface AddonTime {
  total: number;
  inAddon: number;
}

/**
 * Runs `body` with a clock around every function of the addon; each call of the clocks costs about a tenth of a microsecond. What the
 * addon calls back, the backward of a segment, is JavaScript's time again.
 */
export function secondsInAddon(body: () => void): AddonTime {
  const functions: Partial<Record<keyof Binding, unknown>> = { ...binding };
  let inAddon = 0;
  const timed = <Args extends unknown[], Result>(inner: (...args: Args) => Result, sign: 1 | -1) => (...args: Args): Result => {
    const start = performance.now();
    try {
      return inner(...args);
    } finally {
      inAddon += sign * (performance.now() - start);
    }
  };
  const { segment } = binding;
  const segmentWithClock: typeof segment = (inputs, outputs, backward) => segment(inputs, outputs, timed(backward, -1));
  for (const name of bindingNames) {
    const inner = name === "segment" ? segmentWithClock : binding[name];
    Object.assign(binding, { [name]: timed(inner as (...args: unknown[]) => unknown, 1) });
  }
  const start = performance.now();
  try {
    body();
    return { total: (performance.now() - start) / 1000, inAddon: inAddon / 1000 };
  } finally {
    Object.assign(binding, functions);
  }
}
