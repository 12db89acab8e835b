import { ConfigError } from "../../errors.ts";
import { decodeRecord, readJsonl, tolerant } from "../jsonl.ts";
import { type Origin, RecordError } from "../records.ts";
import { readBytes, reasonOf } from "./bytes.ts";
import type { RawRecord, ReadOptions } from "./raw-record.ts";

const advice = "write an array of records, or one record per line (JSONL)";

/** As much of a file as is looked at to tell JSONL from a document. */
const HEAD_BYTES = 1 << 20;

/** Largest record, in bytes. */
const MAX_RECORD_BYTES = 1 << 28;

const [newline, quote, comma, openList, backslash, closeList, openObject, closeObject] = Buffer.from('\n",[\\]{}');

/**
 * The records of a `.json` file: the elements of the array that it is, or of the one array in the object that it is. Files with
 * a record on each line are read as JSONL, because many are published under this ending. Only one record is in memory at a time.
 *
 * @throws {ConfigError} with `file:line` for what is not JSON, and for a file without an array or with several
 */
export async function* readJson(path: string, options: ReadOptions = {}): AsyncGenerator<RawRecord> {
  const { signal, onBadRecord } = options;
  if (await isJsonLines(path, signal)) {
    for await (const { value, line } of readJsonl(path, options)) yield { value, line, path };
    return;
  }
  const splitter = new ElementSplitter(path);
  for await (const chunk of readBytes(path, signal)) {
    for (const { bytes, line } of splitter.push(chunk)) {
      const value = tolerant(() => parseElement(bytes, { path, line }), onBadRecord);
      if (value !== undefined) yield { value, line, path };
    }
  }
  splitter.finish();
}

/** Whether the first line is a whole object and not all there is, or a lone object without a list of objects. */
async function isJsonLines(path: string, signal?: AbortSignal): Promise<boolean> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of readBytes(path, signal)) {
    chunks.push(chunk);
    size += chunk.length;
    if (size >= HEAD_BYTES) break;
  }
  const text = Buffer.concat(chunks).toString("utf8").replace(/^\ufeff/, "").trimStart();
  if (!text.startsWith("{")) return false;
  const end = text.indexOf("\n");
  if (end === -1 && size >= HEAD_BYTES) return false;
  const first = parsed(end === -1 ? text : text.slice(0, end));
  if (first === undefined) return false;
  const isAlone = end === -1 || text.slice(end).trim() === "";
  return !isAlone || !Object.values(first).some((value) => Array.isArray(value) && typeof value[0] === "object");
}

function parsed(text: string): object | undefined {
  try {
    return JSON.parse(text) as object;
  } catch {
    return undefined; // a line of a longer document
  }
}

function parseElement(bytes: Buffer, origin: Origin): unknown {
  const text = decodeRecord(bytes, origin);
  try {
    return JSON.parse(text);
  } catch (cause) {
    const found = text.trim() === "" ? "nothing between two commas" : reasonOf(cause);
    throw new RecordError(origin, undefined, `expected one JSON value, found: ${found}; ${advice}`, { cause });
  }
}

interface Element {
  readonly bytes: Buffer;
  readonly line: number;
}

/** Finds where the elements of the records' array begin and end; what they hold is left to `JSON.parse`. */
class ElementSplitter {
  readonly #path: string;
  #line = 1;
  #depth = 0;
  #isInString = false;
  #isEscaped = false;
  /** Depth inside the records' array; 0 outside. */
  #arrayDepth = 0;
  #numArrays = 0;
  #numElements = 0;
  /** Line of the first character of the element; 0 before it. */
  #elementLine = 0;
  #pending: Buffer[] = [];
  #pendingBytes = 0;

  constructor(path: string) {
    this.#path = path;
  }

  *push(chunk: Buffer): Generator<Element> {
    let start = 0;
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i]!;
      if (this.#isInString) {
        if (this.#isEscaped) this.#isEscaped = false;
        else if (byte === backslash) this.#isEscaped = true;
        else if (byte === quote) this.#isInString = false;
        continue;
      }
      if (byte === newline) this.#line++;
      if (byte <= 32) continue;
      const isInside = this.#arrayDepth > 0, isAtElements = isInside && this.#depth === this.#arrayDepth;
      if (isAtElements && (byte === comma || byte === closeList)) {
        const element = this.#take(chunk.subarray(start, i), byte === closeList);
        if (element !== undefined) yield element;
        start = i + 1;
      } else if (isInside && this.#elementLine === 0) this.#elementLine = this.#line;
      if (this.#structure(byte)) start = i + 1;
    }
    if (this.#arrayDepth === 0) return;
    this.#pending.push(chunk.subarray(start));
    this.#pendingBytes += chunk.length - start;
    if (this.#pendingBytes > MAX_RECORD_BYTES) {
      throw new ConfigError(`${this.#path}:${this.#elementLine}: expected a record, found one of more than ` +
        `${MAX_RECORD_BYTES >> 20} MiB; check the quotes and brackets around this line`);
    }
  }

  /** @throws {ConfigError} if the file ended inside a value, or held no record */
  finish(): void {
    if (this.#depth !== 0 || this.#isInString) {
      throw new ConfigError(`${this.#path}:${this.#line}: expected whole JSON, found the end of the file inside a value; copy it again`);
    }
    if (this.#numElements > 0) return;
    const found = this.#numArrays > 0 ? "an empty array" : this.#line === 1 && !this.#hasBegun ? "an empty file" : "no array of records";
    throw new ConfigError(`${this.#path}: expected at least one record, found ${found}; ${advice}`);
  }

  #hasBegun = false;

  /** Follows brackets and quotes; true where the records' array opens. */
  #structure(byte: number): boolean {
    if (this.#depth === 0 && byte !== openList && byte !== openObject) this.#checkOutside(byte);
    switch (byte) {
      case quote:
        this.#isInString = true;
        return false;
      case openList:
      case openObject: {
        if (this.#depth === 0 && this.#hasBegun) this.#refuse("a second value after the end of the first");
        const isDocument = this.#depth === 0, isField = this.#depth === 1 && this.#arrayDepth === 0;
        this.#hasBegun = true;
        this.#depth++;
        if (byte !== openList || !(isDocument || isField)) return false;
        if (++this.#numArrays > 1) this.#refuse("a second array in the object");
        this.#arrayDepth = this.#depth;
        return true;
      }
      case closeList:
      case closeObject:
        if (this.#depth === this.#arrayDepth) this.#arrayDepth = 0;
        this.#depth--;
        return false;
      default: return false;
    }
  }

  #take(rest: Buffer, isLast: boolean): Element | undefined {
    const bytes = this.#pending.length === 0 ? rest : Buffer.concat([...this.#pending, rest]);
    const line = this.#elementLine || this.#line;
    const isNothing = this.#elementLine === 0;
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#elementLine = 0;
    if (isNothing && isLast && this.#numElements === 0) return undefined;
    this.#numElements++;
    return { bytes, line };
  }

  #checkOutside(byte: number): void {
    const isMark = !this.#hasBegun && [0xef, 0xbb, 0xbf].includes(byte);
    if (!isMark) this.#refuse(this.#hasBegun ? "more text after the end of the value" : "neither [ nor { at the beginning");
  }

  #refuse(found: string): never {
    throw new ConfigError(`${this.#path}:${this.#line}: expected one array of records, found ${found}; ${advice}`);
  }
}
