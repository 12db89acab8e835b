import { ConfigError } from "../../errors.ts";
import type { DecoderSpec } from "../spec.ts";
import type { ConfigReader } from "./config-reader.ts";
import { Entries } from "./entries.ts";
import { activations, type CheckpointEntry, type Family } from "./family.ts";
import { everyLayer, plainHeads, withLayers } from "./shared.ts";

/** GPT-Neo: every other layer sees a window, and scores are not scaled. */
export const gptNeo: Family = {
  modelType: "gpt_neo", className: "GPTNeo", prefix: "transformer.", spec, entries,
  isComputed: (name) => /\.attention\.(masked_)?bias$/.test(name),
};

function spec(read: ConfigReader): DecoderSpec {
  const hiddenSize = read.count("hidden_size", 2048), numLayers = read.count("num_layers", 24);
  const heads = plainHeads(hiddenSize, read.count("num_heads", 16), ["hidden_size", "num_heads"]);
  const window = read.count("window_size", 256), kinds = ["global", "local"] as const;
  const layers = read.perLayer("attention_layers", kinds, numLayers) ?? fromTypes(read, numLayers);
  read.ignore("attention_types");
  const plain: DecoderSpec = {
    vocabSize: read.count("vocab_size"), hiddenSize, numLayers, maxPositions: read.count("max_position_embeddings", 2048),
    norm: { kind: "layer", eps: read.number("layer_norm_epsilon", 1e-5), affine: true, placement: "before" },
    residual: "sequential",
    attention: { ...heads, layers: everyLayer(numLayers, heads.headDim, { scale: 1 }), inputBias: false, outputBias: true },
    mlp: {
      kind: "plain", size: read.count("intermediate_size", 4 * hiddenSize), bias: true,
      activation: read.choice("activation_function", activations, "gelu_new"),
    },
    embedding: { size: hiddenSize, positions: { offset: 0 } },
    finalNorm: true,
    tiesEmbeddings: read.boolean("tie_word_embeddings", true),
  };
  return withLayers(plain, (_, i) => ({ window: layers[i] === "local" ? window : 0 }));
}

/** `[[["global", "local"], 12]]`: a list of kinds and how often it comes. */
function fromTypes(read: ConfigReader, numLayers: number): readonly string[] {
  const types = read.value("attention_types") ?? [[["global", "local"], numLayers / 2]];
  const isRun = (run: unknown): run is [string[], number] => Array.isArray(run) && Array.isArray(run[0]) && Number.isInteger(run[1]);
  const runs = Array.isArray(types) && types.every(isRun) ? types : [];
  const layers = runs.flatMap(([kinds, count]) => new Array<string[]>(count).fill(kinds).flat());
  if (layers.length === numLayers && layers.every((kind) => kind === "global" || kind === "local")) return layers;
  throw new ConfigError(
    `config.json: "attention_types": expected lists of "global" and "local" with their counts for ${numLayers} layers, ` +
      `found ${JSON.stringify(types)}`,
  );
}

function entries(spec: DecoderSpec): CheckpointEntry[] {
  const { hiddenSize, vocabSize, mlp } = spec;
  const entries = new Entries("transformer.");
  entries.add("wte.weight", [vocabSize, hiddenSize], { block: "embedding", leaf: "tokens" });
  entries.add("wpe.weight", [spec.maxPositions, hiddenSize], { block: "embedding", leaf: "positions" });
  for (let block = 0; block < spec.numLayers; block++) {
    const at = `h.${block}`, attend = `${at}.attn.attention`;
    entries.projections([`${attend}.q_proj`, `${attend}.k_proj`, `${attend}.v_proj`], spec, block);
    entries.linear(`${attend}.out_proj`, [hiddenSize, hiddenSize], { block, leaf: "attentionOutput" }, { bias: true });
    entries.linear(`${at}.mlp.c_fc`, [mlp.size, hiddenSize], { block, leaf: "up" }, { bias: true });
    entries.linear(`${at}.mlp.c_proj`, [hiddenSize, mlp.size], { block, leaf: "down" }, { bias: true });
    entries.norm(`${at}.ln_1`, spec, block, "attentionNorm");
    entries.norm(`${at}.ln_2`, spec, block, "mlpNorm");
  }
  entries.norm("ln_f", spec, "final", "norm");
  return entries.list;
}
