import type { DecoderSpec } from "../spec.ts";
import type { ConfigReader } from "./config-reader.ts";
import type { Family } from "./family.ts";
import { gatedEntries, gatedSpec, isFrequencies, windowsOf, withLayers } from "./shared.ts";

/** Qwen 2 and 2.5 (arXiv:2407.10671): Llama with biased projections. */
export const qwen2: Family = {
  modelType: "qwen2", className: "Qwen2", prefix: "model.", entries: gatedEntries, isComputed: isFrequencies,
  spec: (read) => withWindows(read, gatedSpec(read, { inputBias: true, maxPositions: 32768 })),
};

/** Qwen 3 (arXiv:2505.09388): no biases, and a norm of every query and key head. */
export const qwen3: Family = {
  modelType: "qwen3", className: "Qwen3", prefix: "model.", entries: gatedEntries, isComputed: isFrequencies,
  spec: (read) => {
    const plain = withWindows(read, gatedSpec(read, { maxPositions: 32768, heads: { headDim: 128 } }));
    const bias = read.boolean("attention_bias", false), { eps } = plain.norm;
    const attention = { ...plain.attention, inputBias: bias, outputBias: bias, headNorm: { kind: "rms", eps, perHead: false } as const };
    return { ...plain, attention };
  },
};

/** Layers from `max_window_layers` on have a window, if windows are used at all. */
function withWindows(read: ConfigReader, plain: DecoderSpec): DecoderSpec {
  const isOn = read.boolean("use_sliding_window", false), from = read.has("max_window_layers") ? read.number("max_window_layers") : 28;
  read.ignore("sliding_window");
  const window = isOn ? read.count("sliding_window", 4096) : 0;
  const windows = windowsOf(read, plain.numLayers, { window, isSliding: (layer) => layer >= from });
  return withLayers(plain, (_, i) => ({ window: windows[i] ?? 0 }));
}
