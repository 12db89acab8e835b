import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

const WORKERS = 2;
// More OpenMP threads than cores make an operator wait for a descheduled thread.
const threads = String(Math.max(1, Math.floor(availableParallelism() / WORKERS)));

export default defineConfig({
  test: {
    include: ["tests/**/*.test.ts"],
    // The addon keeps state for each process (threads, seeds, operators), so files do not share one.
    pool: "forks",
    maxWorkers: WORKERS,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    env: { OMP_NUM_THREADS: threads, TOKENIZERS_PARALLELISM: "false" },
  },
});
