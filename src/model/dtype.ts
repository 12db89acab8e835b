import { ConfigError } from "../errors.ts";
import { hasFastBfloat16 } from "../tensor/system.ts";
import type { LoadOptions } from "./pretrained.ts";

/**
 * The dtype that a model runs in: bfloat16 where the processor multiplies it in hardware, float32 elsewhere, unless said.
 *
 * @throws {ConfigError} for a device that this build cannot use, or another dtype
 */
export function resolveDtype({ dtype = "auto", device = "auto" }: LoadOptions): "float32" | "bfloat16" {
  if (device !== "auto" && device !== "cpu") {
    throw new ConfigError(`device: expected "auto" or "cpu", got "${device}"; CUDA is not part of this version`);
  }
  if (dtype !== "auto" && dtype !== "float32" && dtype !== "bfloat16") {
    throw new ConfigError(`dtype: expected "auto", "float32" or "bfloat16", got "${dtype}"`);
  }
  if (dtype !== "auto") return dtype;
  return hasFastBfloat16() ? "bfloat16" : "float32";
}
