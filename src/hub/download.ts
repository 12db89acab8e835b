import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, mkdir, open, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { HubError } from "../errors.ts";
import type { HubFile } from "./cache.ts";
import { connectionError, type HubRequests, type RequestSubject, TransientError } from "./requests.ts";

/** One file to download. */
export interface Download {
  readonly file: HubFile;
  readonly url: string;
  /** Where the content goes; beside it lies `<blob>.incomplete` until it is whole, and after it broke off. */
  readonly blob: string;
  readonly subject: RequestSubject;
  /** Called with the bytes that were added, negative when they have to be fetched again. */
  readonly onBytes: (count: number) => void;
}

/**
 * Downloads one file, from where an earlier attempt broke off, and checks its size and hash. The name of the unfinished file is the
 * content's hash and the url names a commit, so what is there and what is missing always belong together; no If-Range is sent,
 * since the servers that large files are redirected to have etags of their own.
 *
 * @throws {HubError} when the bytes are wrong twice
 * @throws as `HubRequests.retrying`
 */
export async function download(requests: HubRequests, task: Download): Promise<void> {
  const part = `${task.blob}.incomplete`;
  await mkdir(dirname(part), { recursive: true });
  for (let isSecond = false; ; isSecond = true) {
    const handle = await open(part, "a+");
    let isRight: boolean;
    try {
      isRight = await fillPart(requests, task, handle, part);
      if (isRight) await handle.sync();
    } finally {
      await handle.close();
    }
    if (isRight) {
      await rename(part, task.blob);
      return;
    }
    await rm(part);
    if (isSecond) {
      throw new HubError(`${task.subject.repo}: ${task.file.path} arrived with wrong bytes twice; a proxy or mirror may be at fault`);
    }
    task.onBytes(-task.file.size);
  }
}

/** Appends what is missing; false when the whole is not what the hub lists. */
async function fillPart(requests: HubRequests, task: Download, handle: FileHandle, part: string): Promise<boolean> {
  const { file } = task;
  let have = (await stat(part)).size;
  if (have > file.size) {
    await handle.truncate(0);
    have = 0;
  }
  let hash = await hashOf(file, part, have);
  task.onBytes(have);
  const restart = async (): Promise<void> => {
    task.onBytes(-have);
    await handle.truncate(0);
    [have, hash] = [0, startHash(file)];
  };
  await requests.retrying(async (gotSomewhere) => {
    if (have === file.size) return;
    for await (const chunk of receive(requests, task, have, restart)) {
      if (have + chunk.length > file.size) throw new HubError(`${task.subject.repo}: ${file.path} is longer than the hub lists`);
      await handle.appendFile(chunk);
      hash.update(chunk);
      have += chunk.length;
      task.onBytes(chunk.length);
      gotSomewhere();
    }
    if (have < file.size) throw new TransientError(`the connection ended after ${have} of ${file.size} bytes of ${file.path}`);
  });
  return hash.digest("hex") === (file.sha256 ?? file.blobId);
}

/** The bytes of the file from `have` on; from its beginning, after `restart`, when the server sends no part of it. */
async function* receive(requests: HubRequests, task: Download, have: number, restart: () => Promise<void>): AsyncGenerator<Uint8Array> {
  const { url, file, subject } = task, { signal } = requests;
  const silence = new SilenceTimer(requests.environment.timeout);
  const stop = AbortSignal.any([silence.signal, ...(signal ? [signal] : [])]);
  try {
    // Compressed on the way, a range would be one of the compressed bytes.
    const headers = { "accept-encoding": "identity", ...(have > 0 && { range: `bytes=${have}-` }) };
    const response = await requests.once(url, subject, { headers, signal: stop });
    const isRest = response.status === 206 && response.headers.get("content-range") === `bytes ${have}-${file.size - 1}/${file.size}`;
    if (have > 0 && !isRest) await restart();
    if (response.status === 416 || (response.status === 206 && !isRest)) {
      await response.body?.cancel();
      throw new TransientError(`the server has no bytes from ${have} on of ${file.path}`);
    }
    for await (const chunk of response.body ?? []) {
      silence.reset();
      yield chunk;
    }
  } catch (error) {
    signal?.throwIfAborted();
    const isConnection = error instanceof TypeError || error instanceof DOMException; // what fetch throws while a body arrives
    throw isConnection ? connectionError(error, url) : error;
  } finally {
    silence.stop();
  }
}

/** Aborts when it was not reset for a while. */
class SilenceTimer {
  readonly #controller = new AbortController();
  readonly #timer: NodeJS.Timeout;

  constructor(milliseconds: number) {
    this.#timer = setTimeout(() => this.#controller.abort(new DOMException("no bytes arrived", "TimeoutError")), milliseconds);
  }

  get signal(): AbortSignal { return this.#controller.signal; }

  reset(): void { this.#timer.refresh(); }

  stop(): void { clearTimeout(this.#timer); }
}

/** The hub's hash of a large file is sha256; of others it is git's: sha1 with a header. */
function startHash({ sha256, size }: HubFile): Hash {
  return sha256 === undefined ? createHash("sha1").update(`blob ${size}\0`) : createHash("sha256");
}

/** The hash after the first `have` bytes of `part`. */
async function hashOf(file: HubFile, part: string, have: number): Promise<Hash> {
  const hash = startHash(file);
  if (have > 0) for await (const chunk of createReadStream(part, { end: have - 1 })) hash.update(chunk as Buffer);
  return hash;
}
