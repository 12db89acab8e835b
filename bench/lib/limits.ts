import type { DType } from "../../src/native/binding.ts";
import { full } from "../../src/tensor/create.ts";
import { tidy } from "../../src/tensor/tidy.ts";
import type { Row } from "./report.ts";
import { median, secondsOf } from "./statistics.ts";

/** What the machine can do at most, with the threads of the run. */
export interface MachineLimits {
  /** Reading memory that is in no cache. */
  bytesPerSecond: number;
  /** Multiply-adds, counted as two, of a large matrix product in the run's dtype. */
  flopsPerSecond: number;
}

/** The limits just before and just after a measurement. */
export interface LimitsAround {
  before: MachineLimits;
  after: MachineLimits;
}

const READ_BYTES = 512 * 2 ** 20;
const MATRIX_SIZE = 2048;

/** Measures reading an array of 512 MiB and a product of 2048 x 2048 matrices: the best of several passes of each. */
export function measureLimits(dtype: DType): MachineLimits {
  return { bytesPerSecond: READ_BYTES / readSeconds(READ_BYTES), flopsPerSecond: (2 * MATRIX_SIZE ** 3) / productSeconds(dtype) };
}

/**
 * Seconds that reading so many bytes takes, over and over. Of libtorch's reductions `amax` of float32 reads fastest: on 2 Zen 4
 * cores 33 GB/s, where an OpenMP sum of doubles in C reads 29 (`sum` 28, `linalg_vector_norm` 22, `mv` 18).
 */
export function readSeconds(bytes: number): number {
  return tidy(() => {
    const array = full([Math.ceil(bytes / 4)], 1, "float32");
    return bestSeconds(() => void tidy(() => void array.amax(0)));
  });
}

function productSeconds(dtype: DType): number {
  return tidy(() => {
    const matrix = full([MATRIX_SIZE, MATRIX_SIZE], 1 / MATRIX_SIZE, dtype);
    return bestSeconds(() => void tidy(() => void matrix.matmul(matrix)));
  });
}

/** The shortest of at least 2 passes after a first one, and of as many as 0.2 seconds hold. */
function bestSeconds(body: () => void): number {
  body();
  let best = Infinity, total = 0;
  for (let passes = 0; passes < 2 || total < 0.2; passes++) {
    const seconds = secondsOf(body);
    best = Math.min(best, seconds);
    total += seconds;
  }
  return best;
}

/** Runs a measurement for each case, with the machine's limits taken around every one. */
export async function* betweenLimits<Case, Result>(
  dtype: DType, cases: readonly Case[], measure: (each: Case) => Promise<Result>,
): AsyncGenerator<{ each: Case; result: Result; limits: LimitsAround }> {
  let before = measureLimits(dtype);
  for (const each of cases) {
    const result = await measure(each);
    const after = measureLimits(dtype);
    yield { each, result, limits: { before, after } };
    before = after;
  }
}

/** The median of both measurements. */
export function medianLimits({ before, after }: LimitsAround): MachineLimits {
  return {
    bytesPerSecond: median([before.bytesPerSecond, after.bytesPerSecond]),
    flopsPerSecond: median([before.flopsPerSecond, after.flopsPerSecond]),
  };
}

/** The limits as a part of a row. */
export function limitColumns({ before, after }: LimitsAround): Row {
  return {
    readGigabytesPerSecondBefore: before.bytesPerSecond / 1e9, readGigabytesPerSecondAfter: after.bytesPerSecond / 1e9,
    productGigaflopsPerSecondBefore: before.flopsPerSecond / 1e9, productGigaflopsPerSecondAfter: after.flopsPerSecond / 1e9,
  };
}
