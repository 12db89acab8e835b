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
    // No test may reach the real hub: a name that is no path is looked for in a cache that is not there.
    env: { HF_HUB_OFFLINE: "1", HF_HUB_CACHE: "/nonexistent/hub", OMP_NUM_THREADS: threads, TOKENIZERS_PARALLELISM: "false" },
  },
});
