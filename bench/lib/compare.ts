import { type GenerationRates, type GenerationTimes, type GenerationWorkload, measureGeneration, ratesOf } from "./generation-run.ts";
import { inTurn } from "./in-turn.ts";
import type { Peer, PeerRates } from "./peers.ts";
import type { Row } from "./report.ts";
import { median, medianRatio } from "./statistics.ts";

/** Ours and the peers' rates, entry i of each from the same turn. */
export interface Comparison extends GenerationRates {
  peakBytes: number;
  javascriptShare: number;
  peers: { name: Peer["name"]; rates: GenerationRates }[];
}

/** Measures a workload; with peers, ours and theirs run in turn (A B C A B C), each run in a process of its own. */
export async function compare(workload: GenerationWorkload, peers: readonly Peer[]): Promise<Comparison> {
  if (peers.length === 0) return { ...summary(workload, [await measureGeneration(workload)]), peers: [] };
  const once = { ...workload, repeats: 1 };
  const { ours, peers: theirs } = await inTurn(
    workload.repeats,
    (turn) => measureGeneration({ ...once, timesAddon: workload.timesAddon && turn === 0 }),
    peers.map(({ name, run }) => ({ name, run: () => run(once) })),
  );
  const ratesOfPeer = (results: readonly PeerRates[]) => (
    { prefill: results.map(({ prefill }) => prefill), decode: results.map(({ decode }) => decode) }
  );
  return { ...summary(workload, ours), peers: theirs.map(({ name, results }) => ({ name, rates: ratesOfPeer(results) })) };
}

function summary(workload: GenerationWorkload, runs: readonly GenerationTimes[]): Omit<Comparison, "peers"> {
  const rates = runs.map((times) => ratesOf(workload, times));
  return {
    prefill: rates.flatMap(({ prefill }) => prefill),
    decode: rates.flatMap(({ decode }) => decode),
    peakBytes: Math.max(...runs.map(({ peakBytes }) => peakBytes)),
    javascriptShare: runs[0]?.javascriptShare ?? Number.NaN,
  };
}

/**
 * `llamaDecodeTokensPerSecond`, `llamaRatio`, ...: a peer's median rates, and ours over its, pair by pair. The ratio of the first
 * phase is the row's `...Ratio`, that of another one is named after it.
 */
export function peerColumns(ours: Comparison, phases: readonly (keyof GenerationRates)[]): Row {
  const columns: [string, number][] = [];
  for (const { name, rates } of ours.peers) {
    for (const phase of phases) {
      const word = phase === "prefill" ? "Prefill" : "Decode";
      columns.push([`${name}${word}TokensPerSecond`, median(rates[phase])]);
      columns.push([`${name}${phase === phases[0] ? "" : word}Ratio`, medianRatio(ours[phase], rates[phase])]);
    }
  }
  return Object.fromEntries(columns);
}
