import { type Binding, binding, bindingNames } from "../../src/native/binding.ts";

/** Seconds of a run, and those of them that were spent in functions of the addon. */
export interface AddonTime {
  total: number;
  inAddon: number;
}

/** Runs `body` with a clock around every function of the addon; each call of the clocks costs about a tenth of a microsecond. */
export function secondsInAddon(body: () => void): AddonTime {
  const functions: Partial<Record<keyof Binding, unknown>> = { ...binding };
  let inAddon = 0;
  for (const name of bindingNames) {
    const inner = binding[name] as (...args: unknown[]) => unknown;
    const timed = (...args: unknown[]): unknown => {
      const start = performance.now();
      try {
        return inner(...args);
      } finally {
        inAddon += performance.now() - start;
      }
    };
    Object.assign(binding, { [name]: timed });
  }
  const start = performance.now();
  try {
    body();
    return { total: (performance.now() - start) / 1000, inAddon: inAddon / 1000 };
  } finally {
    Object.assign(binding, functions);
  }
}
