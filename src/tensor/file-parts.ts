import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { CheckpointError } from "../errors.ts";

/** A file that is read in parts. */
export interface FileParts {
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** `length` bytes from `offset` on. @throws {CheckpointError} when the file ends before */
  at(offset: number, length: number): Buffer;
}

/**
 * Opens a file of weights for `body` and closes it afterwards.
 *
 * @throws {CheckpointError} when it cannot be read, or is what a failed download leaves in place of weights, saying how to get them
 */
export function readParts<Result>(path: string, body: (file: FileParts) => Result): Result {
  const descriptor = explainSystem(path, () => openSync(path, "r"));
  try {
    const stat = fstatSync(descriptor);
    if (!stat.isFile()) throw new CheckpointError(`${path}: expected a file of weights, found something else (a folder?)`);
    const { size } = stat;
    const at = (offset: number, length: number): Buffer => {
      if (offset + length > size) {
        throw new CheckpointError(`${path}: truncated: needs ${offset + length} bytes, the file has ${size}; download it again`);
      }
      const bytes = Buffer.alloc(length);
      for (let done = 0; done < length; ) {
        const count = explainSystem(path, () => readSync(descriptor, bytes, done, length - done, offset + done));
        if (count === 0) throw new CheckpointError(`${path}: ended while it was read, at byte ${offset + done}`);
        done += count;
      }
      return bytes;
    };
    const foreign = explainForeign(at(0, Math.min(size, 64)).toString("latin1"));
    if (foreign !== undefined) throw new CheckpointError(`${path}: ${foreign}`);
    return body({ path, size, at });
  } finally {
    closeSync(descriptor);
  }
}

/** What a file that begins like this is, where it is one of those that are found in place of a model's; undefined otherwise. */
export function explainForeign(start: string): string | undefined {
  if (start.startsWith("version https://git-lfs")) {
    return 'is a Git LFS pointer, not the file itself; run "git lfs pull" in the folder, or download the file';
  }
  if (/^\s*<(!doctype|html|\?xml)/i.test(start)) {
    return "is a web page, not the file itself; download it again (a model that wants a licence accepted needs an access token)";
  }
  return undefined;
}

function explainSystem<Result>(path: string, action: () => Result): Result {
  try {
    return action();
  } catch (cause) {
    throw new CheckpointError(`${path}: cannot be read: ${(cause as Error).message}`, { cause });
  }
}
