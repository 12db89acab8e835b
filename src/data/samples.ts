import type { ReasonCounts } from "./records.ts";

/** Samples that are read by their index, from memory or from the disk; an array is one. */
export interface Samples<T> {
  readonly length: number;
  /** The sample, or undefined outside [0, length). */
  at(index: number): T | undefined;
}

/** All samples in order, one at a time. */
export function* eachOf<T>(samples: Samples<T>): Generator<T> {
  for (let i = 0; i < samples.length; i++) yield* take(samples, [i]);
}

/** The samples with these indices, in this order. @throws {RangeError} for an index without a sample */
export function take<T>(samples: Samples<T>, rows: readonly number[]): T[] {
  return rows.map((row) => {
    const sample = row < 0 ? undefined : samples.at(row);
    if (sample === undefined) throw new RangeError(`sample ${row}: expected an index in [0, ${samples.length - 1}]`);
    return sample;
  });
}

/** Why an entry has no sample: no step can learn from the record, or it did not encode within its limits. */
export interface EntryReason {
  readonly kind: "skipped" | "dropped";
  readonly text: string;
}

/** What became of one line of a step's share. */
export interface Entry<T> {
  /** Tokens of the whole record; 0 if it was skipped. */
  readonly length: number;
  readonly sample?: T | undefined;
  /** There if `sample` is not. */
  readonly reason?: EntryReason | undefined;
  readonly isTruncated?: boolean | undefined;
}

/** Everything about the entries of one source but the samples themselves. */
export interface EntryTable {
  /** Lines of the source, those of other steps too. */
  readonly numLines: number;
  /** 0 for a sample, 1 for a sample that is a part of its record, and 2 + i where `reasons[i]` says why there is none. */
  readonly status: Uint8Array;
  /** Tokens of the whole records. */
  readonly lengths: Uint32Array;
  readonly reasons: readonly EntryReason[];
}

/** The lines of a step's share of one source, in the order of the file, encoded. */
export interface EncodedSource<T> extends EntryTable {
  /** The sample of an entry that has one. */
  sampleAt(entry: number): T;
}

/** The largest status, and so the most reasons: a byte each. */
const MAX_REASONS = 253;

/** Collects an `EntryTable`, in a few bytes an entry. */
export class EntryTableBuilder {
  readonly reasons: EntryReason[] = [];
  #numEntries = 0;
  #status = new Uint8Array(1024);
  #lengths = new Uint32Array(1024);

  /** Adds an entry; returns its number. */
  add({ length, reason, isTruncated }: Entry<unknown>): number {
    const entry = this.#numEntries++;
    if (entry === this.#status.length) {
      this.#status = grown(this.#status, new Uint8Array(entry * 2));
      this.#lengths = grown(this.#lengths, new Uint32Array(entry * 2));
    }
    this.#status[entry] = reason === undefined ? Number(isTruncated === true) : 2 + this.#reasonNumber(reason);
    this.#lengths[entry] = length;
    return entry;
  }

  /** The table; nothing may be added any more. */
  finish(numLines: number): EntryTable {
    return {
      numLines, reasons: this.reasons,
      status: this.#status.subarray(0, this.#numEntries), lengths: this.#lengths.subarray(0, this.#numEntries),
    };
  }

  #reasonNumber({ kind, text }: EntryReason): number {
    const known = this.reasons.findIndex((reason) => reason.kind === kind && reason.text === text);
    if (known >= 0) return known;
    if (this.reasons.length === MAX_REASONS) throw new Error(`internal: more than ${MAX_REASONS} reasons to leave records out`);
    return this.reasons.push({ kind, text }) - 1;
  }
}

/** How often each reason of `kind` occurs among the entries. */
export function countReasons({ status, reasons }: EntryTable, kind: EntryReason["kind"]): ReasonCounts {
  const counts = new Uint32Array(reasons.length);
  for (const value of status) if (value >= 2) counts[value - 2]!++;
  return Object.fromEntries(reasons.flatMap((reason, i) => (reason.kind === kind ? [[reason.text, counts[i]!]] : [])));
}

function grown<A extends Uint8Array | Uint32Array>(from: A, to: A): A {
  to.set(from);
  return to;
}
