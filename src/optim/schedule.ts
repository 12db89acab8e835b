/** How the learning rate goes after warm-up. */
export type Schedule = "cosine" | "linear" | "constant";

/** Where the learning rate is on its way. */
export interface ScheduleOptions {
  schedule: Schedule;
  /** Steps in which the rate rises linearly from 0. */
  warmupSteps: number;
  totalSteps: number;
}

/**
 * Factor of the peak learning rate for `step` (from 0), in (0, 1]: (step + 1) / (warmupSteps + 1) while warming up (one
 * ahead of transformers, whose first step is wasted at rate 0), then with progress = (step - warmupSteps) / (totalSteps - warmupSteps)
 *
 *     cosine: (1 + cos(pi progress)) / 2    linear: 1 - progress    constant: 1
 */
export function scheduleFactor(step: number, { schedule, warmupSteps, totalSteps }: ScheduleOptions): number {
  if (step < warmupSteps) return (step + 1) / (warmupSteps + 1);
  const progress = Math.min((step - warmupSteps) / Math.max(1, totalSteps - warmupSteps), 1);
  switch (schedule) {
    case "constant": return 1;
    case "linear": return 1 - progress;
    case "cosine": return (1 + Math.cos(Math.PI * progress)) / 2;
  }
}
