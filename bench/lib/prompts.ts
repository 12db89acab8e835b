import { Generator, randint } from "../../src/tensor/create.ts";

/** Random tokens, the same in every run; the first few of a vocabulary are left out, since they are often special ones. */
export function randomPrompts(count: number, length: number, vocabSize: number): number[][] {
  const tokens = randint(Math.min(10, vocabSize - 1), vocabSize, [count * length], new Generator(1)).numbers();
  return Array.from({ length: count }, (_, i) => tokens.slice(i * length, (i + 1) * length));
}
