/**
 * Cuts sequences, in order, into micro-batches of at most `maxTokens` tokens each.
 *
 *     microBatches(["aaa", "bbbb", "ccccc", "dd"], (s) => s.length, 7) // [["aaa", "bbbb"], ["ccccc", "dd"]]
 *
 * @throws {RangeError} when one sequence alone is longer
 */
export function microBatches<Item>(items: readonly Item[], lengthOf: (item: Item) => number, maxTokens: number): Item[][] {
  const batches: Item[][] = [];
  let open: Item[] = [], tokens = 0;
  for (const item of items) {
    const length = lengthOf(item);
    if (length > maxTokens) {
      throw new RangeError(`a sequence of ${length} tokens does not fit into a micro-batch of ${maxTokens}; raise microBatchTokens`);
    }
    if (open.length > 0 && tokens + length > maxTokens) {
      batches.push(open);
      [open, tokens] = [[], 0];
    }
    open.push(item);
    tokens += length;
  }
  return open.length > 0 ? [...batches, open] : batches;
}
