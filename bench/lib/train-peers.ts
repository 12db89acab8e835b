import type { Flags } from "../../src/config/resolve.ts";
import type { Contestant } from "./in-turn.ts";
import { checkFolder, peerFile, refuseIdle, runScript } from "./peers.ts";
import type { StepSeconds, TrainWorkload } from "./train-run.ts";

/** What one run of a peer measured. */
export interface PeerSteps {
  steps: StepSeconds[];
  peakResidentBytes: number;
}

/** Number formats of transformers' training: `amp` is weights in float32 and products in bfloat16. */
const formats = { hfFloat32: "float32", hfBfloat16: "bfloat16", hfAmp: "amp" } as const;

/** transformers in one of its number formats. */
export type TrainPeerName = keyof typeof formats;

/**
 * transformers in all its number formats, none without `--peers`.
 *
 * @throws {ConfigError} when a program is missing, or a flag about peers has no `--peers` beside it
 */
export function openTrainPeers(
  { model, peers }: { model: string; peers: string | undefined }, flags: Flags,
): ((workload: TrainWorkload) => Contestant<PeerSteps, TrainPeerName>)[] {
  if (peers === undefined) return refuseIdle(flags, ["against"]);
  peerFile(peers, "venv/bin/python");
  checkFolder("hf", model);
  return (Object.keys(formats) as TrainPeerName[]).map((name) => ({ threads, batch, length, checkpointing, repeats }) => ({
    name,
    run: async () => {
      const settings = { model, dtype: formats[name], threads, batch, length, checkpointing, repeats };
      return (await runScript(peers, "hf_train.py", settings)) as PeerSteps;
    },
  }));
}
