/**
 * Number of different word n-grams over the number of n-grams in all texts (distinct-n, arXiv:1510.03055), in [0, 1];
 * n-grams do not reach across texts. 0 when no text has n words.
 *
 *     distinct(["a b a b"], 1) // 2 of 4: 0.5
 *     distinct(["a b a b"], 2) // "a b", "b a" of 3: 0.667
 */
export function distinct(texts: readonly string[], n: number): number {
  const seen = new Set<string>();
  let count = 0;
  for (const text of texts) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    for (let i = 0; i + n <= words.length; i++) {
      seen.add(words.slice(i, i + n).join(" "));
      count++;
    }
  }
  return count === 0 ? 0 : seen.size / count;
}
