/** A piece of a SentencePiece vocabulary. */
interface ScoredMerge {
  left: string;
  right: string;
  score: number;
}

/**
 * The merges of a SentencePiece BPE vocabulary, which stores a score per piece instead: every way to put a piece together from two
 * others, best score first, among equals the longer left part first, as transformers orders them. Pieces that are not to be merged
 * (control tokens, bytes) are left out with `isMerged`.
 *
 * Example: pieces `a, b, ab` with scores `0, 0, -1` give `[["a", "b"]]`.
 */
export function mergesFromScores(
  pieces: readonly string[], scores: ArrayLike<number>, isMerged: (id: number) => boolean = () => true,
): [string, string][] {
  const known = new Set(pieces.filter((_, id) => isMerged(id)));
  const merges: ScoredMerge[] = [];
  for (const [id, piece] of pieces.entries()) {
    if (!isMerged(id)) continue;
    for (let cut = 1; cut < piece.length; cut++) {
      // Not between the halves of a character beyond U+FFFF.
      const unit = piece.charCodeAt(cut);
      if (unit >= 0xdc00 && unit < 0xe000) continue;
      const left = piece.slice(0, cut), right = piece.slice(cut);
      if (known.has(left) && known.has(right)) merges.push({ left, right, score: scores[id] ?? 0 });
    }
  }
  return merges.sort((a, b) => b.score - a.score || b.left.length - a.left.length || b.right.length - a.right.length)
    .map(({ left, right }) => [left, right]);
}

/**
 * The scores that stand for an order of merges: minus the place of the first merge that makes a piece; pieces that no merge makes come
 * last. Undefined where the order cannot be told by one score a piece. Pieces that are matched before any merge (control and user-defined
 * tokens) do not matter; `isMerged` leaves them out.
 *
 * Example: pieces `a, b, ab` with merges `[["a", "b"]]` give `[-1, -1, 0]`.
 */
export function scoresFromMerges(
  pieces: readonly string[], merges: readonly (readonly [string, string])[], isMerged: (id: number) => boolean = () => true,
): Float32Array | undefined {
  const counted = new Set(pieces.filter((_, id) => isMerged(id)));
  const first = new Map<string, number>();
  let before = 0;
  for (const [place, [left, right]] of merges.entries()) {
    const piece = left + right;
    if (!counted.has(piece)) continue;
    const score = first.get(piece) ?? place;
    if (score < before) return undefined;
    first.set(piece, score);
    before = score;
  }
  return Float32Array.from(pieces, (piece) => -(first.get(piece) ?? merges.length));
}
