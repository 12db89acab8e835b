/**
 * The merges of a SentencePiece BPE vocabulary, which stores a score per piece instead: every way to put a piece
 * together from two others, best score first, and for one piece the longer left part first.
 *
 * Example: pieces `a, b, ab` with scores `0, 0, -1` give `[["a", "b"]]`.
 */
export function mergesFromScores(pieces: readonly string[], scores: readonly number[]): string[][] {
  const known = new Set(pieces);
  const merges: { left: string; right: string; score: number }[] = [];
  for (const [id, piece] of pieces.entries()) {
    const characters = [...piece];
    for (let cut = 1; cut < characters.length; cut++) {
      const left = characters.slice(0, cut).join("");
      const right = characters.slice(cut).join("");
      if (known.has(left) && known.has(right)) merges.push({ left, right, score: scores[id] ?? 0 });
    }
  }
  return merges.sort((a, b) => b.score - a.score || b.left.length - a.left.length).map(({ left, right }) => [left, right]);
}
