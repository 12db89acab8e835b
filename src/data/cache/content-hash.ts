import { createHash, randomUUID } from "node:crypto";
import { createReadStream, type BigIntStats } from "node:fs";
import { readFile, rename, stat, writeFile } from "node:fs/promises";
import { resolve, join } from "node:path";

/** What tells that a file is the same one and was not written to. */
interface Seen {
  readonly size: string;
  readonly mtimeNs: string;
  readonly ctimeNs: string;
  readonly inode: string;
}

/**
 * The SHA-256 of a file's content, hexadecimal. It is remembered in `folder` and not computed again while the file's size, times
 * and inode stay the same.
 */
export async function contentHash(path: string, folder: string): Promise<string> {
  const absolute = resolve(path);
  const note = join(folder, `${createHash("sha256").update(absolute).digest("hex").slice(0, 32)}.file.json`);
  const seen = await seenState(path);
  const remembered = await readNote(note);
  if (remembered !== undefined && isSame(remembered, seen)) return remembered.sha256;
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  const sha256 = hash.digest("hex");
  const aside = `${note}.${randomUUID()}`;
  await writeFile(aside, JSON.stringify({ path: absolute, ...seen, sha256 }));
  await rename(aside, note);
  return sha256;
}

/** The state of a file, equal as long as nobody writes to it. */
export async function seenState(path: string): Promise<Seen> {
  const { size, mtimeNs, ctimeNs, ino }: BigIntStats = await stat(path, { bigint: true });
  return { size: String(size), mtimeNs: String(mtimeNs), ctimeNs: String(ctimeNs), inode: String(ino) };
}

/** Whether two states are of an unchanged file. */
export function isSame(a: Seen, b: Seen): boolean {
  return a.size === b.size && a.mtimeNs === b.mtimeNs && a.ctimeNs === b.ctimeNs && a.inode === b.inode;
}

async function readNote(note: string): Promise<(Seen & { readonly sha256: string }) | undefined> {
  try {
    return JSON.parse(await readFile(note, "utf8")) as Seen & { sha256: string };
  } catch {
    return undefined; // none yet, or half of one: the hash is computed anew, which is always right
  }
}
