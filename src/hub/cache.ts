import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rm, stat, symlink } from "node:fs/promises";
import { dirname, join, relative, sep } from "node:path";
import { errorCode, writeFileAtomic } from "../checkpoint/atomic.ts";
import type { RepoKind } from "./hub-id.ts";

/** A file of a repository at one commit. */
export interface HubFile {
  /** Relative to the repository, with forward slashes. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** Git's hash: sha1 of the file with git's header, or of the pointer that git holds in place of a large file. */
  readonly blobId: string;
  /** Of the content, for a large file (LFS). */
  readonly sha256?: string | undefined;
  readonly xetHash?: string | undefined;
}

/**
 * The cache of one repository, in the layout that all of Hugging Face's tools share:
 *
 *     models--org--name/refs/main              the commit that main was when it was last asked for
 *     models--org--name/blobs/<hash>           contents, by git's hash or by sha256
 *     models--org--name/snapshots/<commit>/... the files of a commit by name, as relative links to their contents
 *     models--org--name/trees/<commit>.json    names, sizes and hashes of all files of a commit
 */
export class RepoCache {
  readonly folder: string;
  /** Locks lie outside, as those of the other tools do. */
  readonly lockFile: string;

  /** Paths only; nothing is made or read. */
  constructor(cacheFolder: string, kind: RepoKind, repo: string) {
    const name = [`${kind}s`, ...repo.split("/")].join("--");
    this.folder = join(cacheFolder, name);
    this.lockFile = join(cacheFolder, ".locks", name, "tschat.lock");
  }

  snapshotFolder(commit: string): string {
    return join(this.folder, "snapshots", commit);
  }

  /** Where the content lies, or will. */
  blobFile({ sha256, blobId }: HubFile): string {
    return join(this.folder, "blobs", sha256 ?? blobId);
  }

  /** Whether the file is there under its name; it may be there as a blob only. */
  has(commit: string, path: string): boolean {
    return existsSync(join(this.snapshotFolder(commit), path));
  }

  /** The commit that a branch or tag was; undefined when it was never asked for. */
  async readRef(revision: string): Promise<string | undefined> {
    return (await readOptional(join(this.folder, "refs", revision)))?.trim();
  }

  /** Notes what a branch or tag is now. */
  async writeRef(revision: string, commit: string): Promise<void> {
    if (revision === commit || (await this.readRef(revision)) === commit) return;
    const path = join(this.folder, "refs", revision);
    await mkdir(dirname(path), { recursive: true });
    await writeFileAtomic(path, commit);
  }

  /** The files of a commit as the hub listed them, which never changes; undefined when they were never listed. */
  async readTree(commit: string): Promise<HubFile[] | undefined> {
    const text = await readOptional(this.#treeFile(commit));
    if (text === undefined) return undefined;
    const tree = parseTree(text);
    if (tree?.format_version !== treeVersion) return undefined;
    return Object.entries(tree.files).map(([path, file]) => ({
      path, size: file.size, blobId: file.blob_id, sha256: file.lfs_sha256, xetHash: file.xet_hash,
    }));
  }

  async writeTree(commit: string, files: readonly HubFile[]): Promise<void> {
    const entries = files.map(({ path, size, blobId, sha256, xetHash }): [string, TreeEntry] => [path, {
      size, blob_id: blobId, ...(sha256 !== undefined && { lfs_sha256: sha256, lfs_size: size }), ...(xetHash && { xet_hash: xetHash }),
    }]);
    const path = this.#treeFile(commit);
    await mkdir(dirname(path), { recursive: true });
    const tree: Tree = { format_version: treeVersion, files: Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1))) };
    await writeFileAtomic(path, JSON.stringify(tree, null, 1));
  }

  /** The files of a commit that are here, for a cache that older tools wrote, without a listing. */
  async walkSnapshot(commit: string): Promise<string[]> {
    const root = this.snapshotFolder(commit);
    if (!existsSync(root)) return [];
    const names = await readdir(root, { recursive: true });
    const isFile = async (name: string): Promise<boolean> => existsSync(join(root, name)) && (await stat(join(root, name))).isFile();
    const found = await Promise.all(names.map(async (name) => ((await isFile(name)) ? [name.split(sep).join("/")] : [])));
    return found.flat().sort();
  }

  /** Gives a blob its name in the snapshot of a commit. */
  async link(commit: string, file: HubFile): Promise<void> {
    const path = join(this.snapshotFolder(commit), file.path);
    await mkdir(dirname(path), { recursive: true });
    await rm(path, { force: true }); // a link to a blob that was deleted
    await symlink(relative(dirname(path), this.blobFile(file)), path);
  }

  #treeFile(commit: string): string {
    return join(this.folder, "trees", `${commit}.json`);
  }
}

/** The format of huggingface_hub 2 for Python. */
const treeVersion = 1;

interface TreeEntry {
  readonly size: number;
  readonly blob_id: string;
  readonly lfs_sha256?: string;
  readonly lfs_size?: number;
  readonly xet_hash?: string;
}

interface Tree {
  readonly format_version: number;
  readonly files: Readonly<Record<string, TreeEntry>>;
}

/** Undefined for a damaged listing, which is then asked for again. */
function parseTree(text: string): Tree | undefined {
  try {
    return JSON.parse(text) as Tree;
  } catch {
    return undefined;
  }
}

async function readOptional(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (["ENOENT", "ENOTDIR", "EISDIR"].includes(errorCode(error) ?? "")) return undefined;
    throw error;
  }
}
