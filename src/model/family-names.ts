import type { CheckpointSource } from "./checkpoint-source.ts";
import { type Family, HEAD_MODULE, SCORE_NAME } from "./families/family.ts";

/**
 * A checkpoint with the names of its family's CausalLM. Checkpoints of bare decoders (`bigscience/bloom-560m`, `gpt2`) go without the
 * prefix, and GPT-NeoX's call the head otherwise.
 */
export function withFamilyNames(source: CheckpointSource, { prefix, storedHead = HEAD_MODULE }: Family): CheckpointSource {
  const stored = source.names(), isBare = !stored.some((name) => name.startsWith(prefix));
  const nameOf = (name: string): string => {
    if (name.startsWith(`${storedHead}.`)) return HEAD_MODULE + name.slice(storedHead.length);
    return isBare && name !== SCORE_NAME && !isHead(name) ? prefix + name : name;
  };
  const storedAs = new Map(stored.map((name) => [nameOf(name), name]));
  const find = (name: string) => storedAs.get(name) ?? name;
  return {
    ...source,
    names: () => [...storedAs.keys()],
    shape: (name) => source.shape(find(name)),
    read: (name) => source.read(find(name)),
  };
}

/** What files call a tensor of a CausalLM. */
export function storedName(name: string, { storedHead = HEAD_MODULE }: Family): string {
  return isHead(name) ? storedHead + name.slice(HEAD_MODULE.length) : name;
}

/** Whether a tensor belongs to a language model's head. */
export function isHead(name: string): boolean {
  return name.startsWith(`${HEAD_MODULE}.`);
}
