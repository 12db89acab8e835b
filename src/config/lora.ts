import { ConfigError } from "../errors.ts";
import { boolean, group, integer, number, path, text, type ConfigOf } from "./fields.ts";
import { flagOf } from "./names.ts";

/** A LoRA adapter to start from, where a step or the chat takes a model. */
export const adapterField = {
  adapter: path({
    hint: "<dir>", optional: true, hub: "adapter", help: "LoRA adapter in PEFT's format, merged into the model before anything else",
  }),
};

/** Low-rank adapters, as all steps share them; the rank and the learning rate have names of their own in PPO. */
export const loraSharedFields = {
  loraAlpha: number({ above: 0, optional: true, help: "adapters are scaled by this over the rank; 16 when left out" }),
  loraDropout: number({ min: 0, max: 0.99, optional: true, help: "share of the adapters' inputs dropped in training; 0 when left out" }),
  loraTargets: text({
    hint: "<patterns>", optional: true,
    help: "linears of the layers that get adapters, by the ends of their names, * for any characters, e.g. q_proj,v_proj; " +
      "all-linear when left out",
  }),
  onlyLora: boolean({
    default: true, aliases: ["only_optimize_lora"],
    help: "train the adapters alone; without it also embeddings, norms, biases and head, while adapted matrices stay",
  }),
};

/** Low-rank adapters (arXiv:2106.09685) of a step with one model. */
export const loraFields = group("LoRA:", {
  loraRank: integer({
    default: 0, min: 0, aliases: ["lora_dim"], help: "rank of low-rank adapters, which train in place of the weights; 0 trains the weights",
  }),
  ...loraSharedFields,
  loraLearningRate: number({ min: 0, optional: true, help: "peak learning rate of the adapters; --learning-rate when left out" }),
});

/** Values of `loraSharedFields`. */
export type LoraSettings = ConfigOf<typeof loraSharedFields>;

/** What `addLora` of a model takes. */
export interface LoraChoice {
  rank: number;
  alpha?: number;
  dropout?: number;
  targets?: string;
  onlyLora: boolean;
  seed: number;
}

/** The settings as a model takes them. */
export function loraChoice(rank: number, seed: number, { loraAlpha, loraDropout, loraTargets, onlyLora }: LoraSettings): LoraChoice {
  return {
    rank, seed, onlyLora, ...(loraAlpha !== undefined && { alpha: loraAlpha }), ...(loraDropout !== undefined && { dropout: loraDropout }),
    ...(loraTargets !== undefined && { targets: loraTargets }),
  };
}

/**
 * @param ranks settings that turn adapters on, with their values
 * @param rates settings that only adapters use, with the one of `ranks` that each needs
 * @throws {ConfigError} when a setting would have no effect
 */
export function checkLora(
  config: LoraSettings, ranks: Readonly<Record<string, number>>, rates: Readonly<Record<string, readonly [string, number | undefined]>>,
): void {
  const needs = (key: string, rank: string): never => {
    throw new ConfigError(`${flagOf(key)}: only adapters use it; give ${rank} too`);
  };
  const isOn = Object.values(ranks).some((rank) => rank > 0);
  const { loraAlpha, loraDropout, loraTargets, onlyLora } = config;
  const given = { loraAlpha, loraDropout, loraTargets, onlyLora: onlyLora ? undefined : onlyLora };
  for (const [key, value] of Object.entries(given)) {
    if (!isOn && value !== undefined) needs(key, Object.keys(ranks).map(flagOf).join(" or "));
  }
  for (const [key, [rank, value]] of Object.entries(rates)) if (value !== undefined && (ranks[rank] ?? 0) === 0) needs(key, flagOf(rank));
}

/** @throws {ConfigError} when new adapters would stand on a model that is nowhere on disk */
export function checkAdapter(key: string, adapter: string | undefined, rankKey: string, rank: number): void {
  if (adapter === undefined || rank === 0) return;
  throw new ConfigError(
    `${flagOf(key)}: not beside ${flagOf(rankKey)}: the new adapter would belong to a model that is nowhere on disk; ` +
      "make it first: tschat merge",
  );
}
