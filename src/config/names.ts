/** `klCoef` and `kl_coef` -> `kl-coef`. */
export function kebab(name: string): string {
  return name.replace(/_/g, "-").replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** `--kl-coef` for `klCoef`, `--ppo.kl-coef` for `ppo.klCoef`. */
export function flagOf(key: string): string {
  return `--${kebab(key)}`;
}

/**
 * The candidate that `name` most likely means, or undefined when none is near: at most three edits (insert, delete, replace,
 * swap neighbours) and more than 40% alike. Case, `-` and `_` do not count.
 */
export function nearest(name: string, candidates: Iterable<string>): string | undefined {
  const wanted = plain(name);
  let best: { candidate: string; edits: number } | undefined;
  for (const candidate of candidates) {
    const other = plain(candidate);
    const edits = editDistance(wanted, other);
    const isNear = edits <= 3 && edits / Math.max(wanted.length, other.length, 1) < 0.6;
    if (isNear && edits < (best?.edits ?? Infinity)) best = { candidate, edits };
  }
  return best?.candidate;
}

/** `; did you mean X?` for the nearest candidate, or nothing. */
export function didYouMean(name: string, candidates: Iterable<string>): string {
  const candidate = nearest(name, candidates);
  return candidate === undefined ? "" : `; did you mean ${candidate}?`;
}

function plain(name: string): string {
  return name.toLowerCase().replace(/[-_]/g, "");
}

/** Damerau-Levenshtein distance in its optimal string alignment form. */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      let edits = Math.min(at(last, j) + 1, at(row, j - 1) + 1, at(last, j - 1) + cost);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) edits = Math.min(edits, at(beforeLast, j - 2) + 1);
      row.push(edits);
    }
    beforeLast = last;
    last = row;
  }
  return at(last, b.length);
}

function at(row: readonly number[], index: number): number {
  return row[index] ?? Infinity;
}
