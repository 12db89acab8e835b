import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** A repository that the server offers. */
export interface LocalRepo {
  readonly kind?: "model" | "dataset";
  readonly name: string;
  /** Content by path. Those of `large` are served as LFS files, from the other host. */
  readonly files: Readonly<Record<string, string | Buffer>>;
  readonly large?: readonly string[];
  /** Branches and tags besides main, with their commits. */
  readonly revisions?: Readonly<Record<string, string>>;
  /** Content of commits that differ from `files`. */
  readonly filesAt?: Readonly<Record<string, Readonly<Record<string, string | Buffer>>>>;
  /** The token that it takes; anyone without it is told that there is no such repository. */
  readonly token?: string;
  readonly isGated?: boolean;
}

/** A request as it arrived. */
export interface SeenRequest {
  readonly host: "hub" | "storage";
  readonly method: string;
  readonly path: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
  readonly encoding: string | string[] | undefined;
}

/** Takes the place of the answer to a request when it returns true. */
export type Fault = (request: SeenRequest, response: ServerResponse, content: Buffer) => boolean;

/** The commit that `main` is, unless `revisions` says something else. */
export const mainCommit = "a".repeat(40);

/**
 * A server that behaves like the hub, and a second one like the storage to which it redirects for large files. `faults` make answers
 * go wrong; `requests` has all that came.
 */
export class LocalHub {
  readonly requests: SeenRequest[] = [];
  readonly faults: Fault[] = [];
  readonly repos: LocalRepo[] = [];
  readonly #hub: Server = createServer((request, response) => this.#answer("hub", request, response));
  readonly #storage: Server = createServer((request, response) => this.#answer("storage", request, response));

  static async start(...repos: LocalRepo[]): Promise<LocalHub> {
    const local = new LocalHub();
    local.repos.push(...repos);
    for (const server of [local.#hub, local.#storage]) await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
    return local;
  }

  get endpoint(): string { return `http://127.0.0.1:${(this.#hub.address() as AddressInfo).port}`; }

  async stop(): Promise<void> {
    for (const server of [this.#hub, this.#storage]) {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    }
  }

  /** Requests for contents, as `host path range`. */
  get downloads(): string[] {
    const contents = this.requests.filter(({ path }) => !path.startsWith("/api/"));
    return contents.map(({ host, path, range }) => `${host} ${path}${range ? ` ${range}` : ""}`);
  }

  #answer(host: "hub" | "storage", request: IncomingMessage, response: ServerResponse): void {
    const path = decodeURIComponent((request.url ?? "/").split("?", 1)[0] ?? "/");
    const seen: SeenRequest = {
      host, path, method: request.method ?? "GET", range: request.headers.range, authorization: request.headers.authorization,
      encoding: request.headers["accept-encoding"],
    };
    this.requests.push(seen);
    const target = host === "storage" ? { repo: undefined, rest: "" } : this.#target(path);
    const content = this.#content(host, path);
    if (this.faults.some((fault) => fault(seen, response, content))) return;
    if (host === "storage") sendContent(seen, response, content, {});
    else this.#answerHub(target, seen, response);
  }

  #answerHub({ repo, rest }: { repo: LocalRepo | undefined; rest: string }, seen: SeenRequest, response: ServerResponse): void {
    const [action, revision, file] = splitRest(rest);
    const commits: Record<string, string> = { main: mainCommit, HEAD: mainCommit, ...repo?.revisions };
    const commit = commits[revision] ?? Object.values(commits).find((hash) => hash === revision);
    if (repo === undefined || (repo.token !== undefined && seen.authorization !== `Bearer ${repo.token}`)) {
      refuse(response, 401, "RepoNotFound", "Repository not found");
    } else if (commit === undefined) {
      refuse(response, 404, "RevisionNotFound", `Invalid rev id: ${revision}`);
    } else if (action === "revision") {
      sendJson(response, { _id: "1", id: repo.name, sha: commit, lastModified: "2026-01-01T00:00:00.000Z" });
    } else if (action === "tree") {
      const entries = Object.entries(filesAt(repo, commit)).map(([name, content]) => treeEntry(content, name, repo.large));
      sendJson(response, entries.map(({ content: _, ...entry }) => entry));
    } else if (repo.isGated) {
      refuse(response, 403, "GatedRepo", "Access to model is restricted");
    } else if (filesAt(repo, commit)[file] === undefined) {
      refuse(response, 404, "EntryNotFound", "Entry not found");
    } else {
      this.#sendFile(treeEntry(filesAt(repo, commit)[file], file, repo.large), { commit, seen, response });
    }
  }

  #sendFile(entry: TreeEntry, { commit, seen, response }: { commit: string; seen: SeenRequest; response: ServerResponse }): void {
    const headers = { "x-repo-commit": commit };
    if (entry.lfs === undefined) {
      sendContent(seen, response, entry.content, { ...headers, etag: `"${entry.oid}"` });
      return;
    }
    response.writeHead(302, {
      ...headers, location: `http://127.0.0.1:${(this.#storage.address() as AddressInfo).port}/${entry.lfs.oid}`,
      "x-linked-size": String(entry.size), "x-linked-etag": `"${entry.lfs.oid}"`, ...(entry.xetHash && {
        "x-xet-hash": entry.xetHash,
        link: '<https://cas.invalid/auth>; rel="xet-auth", <https://cas.invalid/r>; rel="xet-reconstruction-info"',
      }),
    }).end();
  }

  #content(host: "hub" | "storage", path: string): Buffer {
    const all = this.repos.flatMap((repo) => [repo.files, ...Object.values(repo.filesAt ?? {})]);
    if (host === "storage") {
      const contents = all.flatMap((files) => Object.values(files)).map((content) => Buffer.from(content));
      return contents.find((content) => sha256(content) === path.slice(1)) ?? Buffer.alloc(0);
    }
    const { repo, rest } = this.#target(path);
    const [, commit, file] = splitRest(rest);
    return Buffer.from((repo && filesAt(repo, commit)[file]) ?? "");
  }

  #target(path: string): { repo: LocalRepo | undefined; rest: string } {
    const plain = path.replace(/^\/api\/models\/|^\//, "").replace(/^api\//, "");
    for (const repo of this.repos) {
      const name = `${repo.kind === "dataset" ? "datasets/" : ""}${repo.name}/`;
      if (plain.startsWith(name)) return { repo, rest: plain.slice(name.length) };
    }
    return { repo: undefined, rest: "" };
  }
}

/** `action/revision/file`; the revision of the Parquet branch has slashes. */
function splitRest(rest: string): [action: string, revision: string, file: string] {
  const [, action = "", revision = "", file = ""] = /^([^/]+)\/(refs\/convert\/parquet|[^/]+)(?:\/(.*))?$/.exec(rest) ?? [];
  return [action, revision, file];
}

interface TreeEntry {
  readonly type: "file";
  readonly path: string;
  readonly size: number;
  readonly oid: string;
  readonly lfs?: { readonly oid: string; readonly size: number; readonly pointerSize: number };
  readonly xetHash?: string;
  readonly content: Buffer;
}

/** What the hub lists: git's hash of a file or, for a large one, of its pointer, and the sha256 of the content. */
function treeEntry(file: string | Buffer | undefined, path: string, large: readonly string[] = []): TreeEntry {
  const content = Buffer.from(file ?? "");
  if (!large.includes(path)) return { type: "file", path, size: content.length, oid: gitHash(content), content };
  const oid = sha256(content);
  const pointer = Buffer.from(`version https://git-lfs.github.com/spec/v1\noid sha256:${oid}\nsize ${content.length}\n`);
  return {
    type: "file", path, size: content.length, oid: gitHash(pointer), content, xetHash: sha256(oid),
    lfs: { oid, size: content.length, pointerSize: pointer.length },
  };
}

function filesAt(repo: LocalRepo, commit: string): LocalRepo["files"] {
  return repo.filesAt?.[commit] ?? repo.files;
}

export function sha256(content: Buffer | string): string {
  return createHash("sha256").update(content).digest("hex");
}

/** Of a blob, as `git hash-object` prints it. */
export function gitHash(content: Buffer | string): string {
  return createHash("sha1").update(`blob ${Buffer.byteLength(content)}\0`).update(content).digest("hex");
}

/** The content or the range of it that was asked for. */
export function sendContent(request: SeenRequest, response: ServerResponse, content: Buffer, headers: Record<string, string>): void {
  const start = Number(/^bytes=(\d+)-$/.exec(request.range ?? "")?.[1] ?? Number.NaN);
  if (Number.isNaN(start)) {
    response.writeHead(200, { ...headers, "content-length": content.length }).end(request.method === "HEAD" ? undefined : content);
  } else if (start >= content.length) {
    response.writeHead(416, { "content-range": `bytes */${content.length}` }).end();
  } else {
    response.writeHead(206, {
      ...headers, "content-length": content.length - start, "content-range": `bytes ${start}-${content.length - 1}/${content.length}`,
    }).end(content.subarray(start));
  }
}

function refuse(response: ServerResponse, status: number, code: string, message: string): void {
  const headers = { "x-error-code": code, "x-error-message": message, "content-type": "application/json" };
  response.writeHead(status, headers).end(JSON.stringify({ error: message }));
}

function sendJson(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(value));
}
