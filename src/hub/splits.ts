/** Splits of a data set: name -> files. */
export type Splits = ReadonlyMap<string, readonly string[]>;

/** Names that stand for the three usual splits, as Hugging Face's `datasets` has them. */
const keywords: Readonly<Record<string, readonly string[]>> = {
  train: ["train", "training"],
  validation: ["validation", "valid", "dev", "val"],
  test: ["test", "testing", "eval", "evaluation"],
};
const separator = "[-._ 0-9]";

/**
 * The splits that file names tell, by the rules of `datasets`, the first that finds any: `data/<split>-00000-of-00002.*`; folders named
 * after splits; files named after splits; everything is `train`.
 *
 * @param files names relative to where the rules apply
 */
export function splitsOfNames(files: readonly string[]): Splits {
  const sharded = grouped(files, (file) => {
    const split = /^data\/([^/]+)-\d{5}-of-\d{5}[^/]*\.[^/]*$/.exec(file)?.[1];
    return split === undefined ? [] : [split];
  });
  if (sharded.size > 0) return sharded;
  const byFolder = grouped(files, (file) => splitsNamedIn(file.split("/").slice(0, -1), "(?:$|[-._ 0-9])"));
  if (byFolder.size > 0) return byFolder;
  const byName = grouped(files, (file) => splitsNamedIn(file.split("/").slice(-1), separator));
  return byName.size > 0 ? byName : new Map(files.length > 0 ? [["train", files]] : []);
}

function splitsNamedIn(parts: readonly string[], end: string): string[] {
  return Object.entries(keywords).filter(([, words]) => {
    const pattern = new RegExp(`(?:^|${separator})(?:${words.join("|")})${end}`);
    return parts.some((part) => pattern.test(part));
  }).map(([split]) => split);
}

function grouped(files: readonly string[], splitsOf: (file: string) => readonly string[]): Splits {
  const groups = new Map<string, string[]>();
  for (const file of files) for (const split of splitsOf(file)) groups.set(split, [...(groups.get(split) ?? []), file]);
  return groups;
}

/** Files that a glob pattern (`*`, `**`, `?`, `[...]`), a file name or a folder name stands for. */
export function filesMatching(files: readonly string[], pattern: string): string[] {
  const plain = pattern.replace(/^\.\//, "").replace(/\/+$/, "");
  const glob = new RegExp(`^${plain.split(/(\*\*\/|\*\*|\*|\?|\[[^\]]+\])/).map(globPart).join("")}$`);
  return files.filter((file) => glob.test(file) || file.startsWith(`${plain}/`));
}

function globPart(part: string): string {
  switch (part) {
    case "**/": return "(?:.*/)?";
    case "**": return ".*";
    case "*": return "[^/]*";
    case "?": return "[^/]";
    default: return part.startsWith("[") && part.endsWith("]") ? part.replace(/^\[!/, "[^") : part.replace(/[\\^$.|+(){}[\]]/g, "\\$&");
  }
}
