import { CheckpointError } from "../errors.ts";
import { noGrad } from "../tensor/autograd.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { CheckpointSource } from "./checkpoint-source.ts";
import { type CheckpointEntry, SCORE_NAME } from "./families/family.ts";
import { leafShape } from "./layout.ts";
import { readPeftAdapter } from "./peft.ts";

/**
 * A checkpoint with an adapter merged in: the weight of a linear is read as W + scale B A, in float32. Without an adapter it is the
 * checkpoint itself.
 *
 * @param adapter folder in PEFT's format
 * @param entries tensors of the model that it is for
 * @throws {CheckpointError} when the adapter belongs to another model, naming the module, or is one of `readPeftAdapter`'s errors
 */
export function mergedCheckpoint(
  base: CheckpointSource, adapter: string | undefined, entries: readonly CheckpointEntry[],
): CheckpointSource {
  if (adapter === undefined) return base;
  const { factors, saved } = readPeftAdapter(adapter);
  const shapes = new Map(entries.map((entry) => [entry.name, leafShape(entry)]));
  const transposed = new Set(entries.flatMap((entry) => (entry.transposed ? [entry.name] : [])));
  for (const [module, { a, b }] of factors) {
    const found = [b.shape[0], a.shape[1]], expected = shapes.get(`${module}.weight`);
    if (expected?.join() === found.join()) continue;
    throw new CheckpointError(
      `${adapter}: adapts ${module} [${found.join(", ")}], ` +
        `${expected ? `which is [${expected.join(", ")}]` : "which is no linear"} in ${base.path}: it belongs to another model`,
    );
  }
  for (const name of saved.keys()) {
    if (name === SCORE_NAME && shapes.has(name)) continue;
    throw new CheckpointError(
      `${adapter}: brings a whole "${name}" (modules_to_save), which tschat reads only for the head of a reward model`,
    );
  }
  const read = (name: string): Tensor => {
    const stored = factors.get(name.replace(/\.weight$/, ""));
    if (!stored) return saved.get(name) ?? base.read(name);
    const delta = stored.b.to("float32").mul(stored.scale).matmul(stored.a.to("float32"));
    return base.read(name).to("float32").add(transposed.has(name) ? delta.transpose(0, 1) : delta);
  };
  return {
    ...base,
    names: () => [...new Set([...base.names(), ...saved.keys()])],
    shape: (name) => saved.get(name)?.shape ?? base.shape(name),
    read: (name) => noGrad(() => read(name)),
  };
}
