import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inTurn, type Turns } from "./in-turn.ts";
import type { PpoPeer } from "./ppo-peers.ts";
import { type PromptBatches, unequal } from "./ppo-prompts.ts";
import {
  measurePpo, type OurPpoTimes, type PpoIteration, type PpoTimes, type PpoWorkload, secondsOfIteration, secondsOfStage, type Stage, stages,
  writePrompts, writeRewardModel,
} from "./ppo-run.ts";
import type { Row } from "./report.ts";
import { median, medianRatio } from "./statistics.ts";

/** Ours and the peers' iterations, entry i of each from the same turn. */
export type PpoComparison = Turns<OurPpoTimes, PpoTimes, PpoPeer["name"]>;

/** A workload without the files that are written for it. */
export type PpoSettings = Omit<PpoWorkload, "rewardModel" | "prompts">;

/**
 * Measures an iteration for each batch but the first, the warm-up; with peers, ours and theirs run in turn, each with a warm-up and one
 * iteration in a process of its own.
 *
 * @param padsPeers whether the peers' prompts are made unequal, see `unequal`
 */
export async function comparePpo(
  settings: PpoSettings, batches: PromptBatches, peers: readonly PpoPeer[], padsPeers: boolean,
): Promise<PpoComparison> {
  const folder = mkdtempSync(join(tmpdir(), "tschat-bench-"));
  try {
    const rewardModel = await writeRewardModel(settings.model, settings.dtype, folder);
    const workload = (chosen: PromptBatches): PpoWorkload =>
      ({ ...settings, rewardModel, prompts: writePrompts(chosen, join(folder, "prompts.json")) });
    if (peers.length === 0) return await inTurn(1, () => measurePpo(workload(batches)), []);
    const ofTurn = (turn: number) => [...batches.slice(0, 1), ...batches.slice(turn + 1, turn + 2)];
    return await inTurn(batches.length - 1, (turn) => measurePpo(workload(ofTurn(turn))), peers.map(({ name, run }) => (
      { name, run: (turn: number) => run(workload(padsPeers ? unequal(ofTurn(turn)) : ofTurn(turn))) }
    )));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Medians of the stages over iterations, in seconds. */
export function stageSeconds(iterations: readonly PpoIteration[]): Record<Stage, number> {
  const entries = stages.map((stage) => [stage, median(iterations.map((iteration) => secondsOfStage(iteration, stage)))]);
  return Object.fromEntries(entries) as Record<Stage, number>;
}

/** Tokens of all answers, the median over iterations. */
export function responseTokens(iterations: readonly PpoIteration[]): number {
  return median(iterations.map(({ responseLengths }) => responseLengths.reduce((sum, length) => sum + length, 0)));
}

/** `dschatSamplesPerSecond`, `dschatRatio`, ...: a peer's figures, and ours over its speed, pair by pair, and peak. */
export function ppoPeerColumns({ ours, peers }: PpoComparison, batch: number): Row {
  const rates = ({ iterations }: PpoTimes) => iterations.map((iteration) => batch / secondsOfIteration(iteration));
  const peakOf = (runs: readonly PpoTimes[]) => Math.max(...runs.map((run) => run.peakResidentBytes));
  return Object.fromEntries(peers.flatMap(({ name, results }) => {
    const iterations = results.flatMap((result) => result.iterations), theirs = stageSeconds(iterations);
    return Object.entries({
      SamplesPerSecond: median(results.flatMap(rates)),
      Ratio: medianRatio(ours.flatMap(rates), results.flatMap(rates)),
      SecondsGenerate: theirs.generate, SecondsScore: theirs.score, SecondsTrain: theirs.train,
      ResponseTokens: responseTokens(iterations),
      PeakResidentBytes: peakOf(results),
      MemoryRatio: peakOf(ours) / peakOf(results),
    }).map(([column, value]) => [`${name}${column}`, value]);
  }));
}
