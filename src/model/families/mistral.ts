import type { DecoderSpec } from "../spec.ts";
import type { ConfigReader } from "./config-reader.ts";
import type { Family } from "./family.ts";
import { gatedEntries, gatedSpec, isFrequencies, windowsOf, withLayers } from "./shared.ts";

/** Mistral 7B (arXiv:2310.06825), whose queries see a window in every layer, and its successors without one. */
export const mistral: Family = {
  modelType: "mistral", className: "Mistral", prefix: "model.", spec, entries: gatedEntries, isComputed: isFrequencies,
};

function spec(read: ConfigReader): DecoderSpec {
  const plain = gatedSpec(read, { heads: { kvHeads: 8 }, maxPositions: 131072 });
  const window = read.has("sliding_window") ? read.count("sliding_window") : 0;
  const windows = windowsOf(read, plain.numLayers, { window, isSliding: () => true });
  return withLayers(plain, (_, i) => ({ window: windows[i] ?? 0 }));
}
