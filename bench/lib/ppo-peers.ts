import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Flags } from "../../src/config/resolve.ts";
import { ConfigError } from "../../src/errors.ts";
import { resolveDtype } from "../../src/model/dtype.ts";
import type { DType } from "../../src/native/binding.ts";
import { checkFolder, peerFile, refuseIdle, runScript } from "./peers.ts";
import type { PpoTimes, PpoWorkload } from "./ppo-run.ts";

/** Another program's PPO on the same workload. */
export interface PpoPeer {
  /** Prefix of its columns. */
  name: "dschat" | "trl";
  /** One run in a process of its own. */
  run(workload: PpoWorkload): Promise<PpoTimes>;
}

/** The settings that choose peers. */
export interface PpoPeerConfig {
  readonly model: string;
  readonly dtype: "auto" | "float32" | "bfloat16";
  readonly peers: string | undefined;
  readonly against: readonly ("deepspeed-chat" | "trl")[];
  readonly peerDschat: string | undefined;
}

/**
 * The peers that the flags name, none without `--peers`.
 *
 * @throws {ConfigError} when a program or folder is missing, or a flag about peers has no `--peers` beside it
 */
export function openPpoPeers({ model, dtype, peers, against, peerDschat }: PpoPeerConfig, flags: Flags): PpoPeer[] {
  if (peers === undefined) return refuseIdle(flags, ["against", "peerDschat"]);
  peerFile(peers, "venv/bin/python");
  return against.map((name) => {
    checkFolder(name, model);
    return name === "trl" ? trl(peers) : deepSpeedChat(peers, peerDschat ?? process.env["DSCHAT_DIR"], resolveDtype({ dtype }));
  });
}

/** DeepSpeed-Chat's own step 3. */
function deepSpeedChat(folder: string, sources: string | undefined, dtype: DType): PpoPeer {
  if (dtype !== "bfloat16") {
    throw new ConfigError(`--against deepspeed-chat: trains in bfloat16 only, this run is in ${dtype}; leave it out`);
  }
  if (sources === undefined) {
    throw new ConfigError("--against deepspeed-chat: needs --peer-dschat, the folder of its sources; or leave it out with --against trl");
  }
  if (!existsSync(join(sources, "training/step3_rlhf_finetuning/main.py"))) {
    throw new ConfigError(
      `--peer-dschat: ${sources} has no training/step3_rlhf_finetuning/main.py; name the folder that has dschat and training in it`,
    );
  }
  return {
    name: "dschat",
    async run({ model, prompts, promptLength, newTokens, threads, untilEnd }) {
      const flags = { src: sources, model, prompts, promptLength, newTokens, threads, untilEnd };
      return (await runScript(folder, "dschat_step3.py", flags)) as PpoTimes;
    },
  };
}

/** TRL's PPO; weights, gradients and Adam's states are all in the run's dtype. */
function trl(folder: string): PpoPeer {
  const packages = peerFile(folder, "trl112");
  return {
    name: "trl",
    async run({ model, prompts, dtype, newTokens, threads, untilEnd }) {
      return (await runScript(folder, "trl_ppo.py", { trl: packages, model, prompts, dtype, newTokens, threads, untilEnd })) as PpoTimes;
    },
  };
}
