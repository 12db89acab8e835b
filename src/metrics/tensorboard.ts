import { hostname } from "node:os";
import { join } from "node:path";
import { AppendFile } from "./append-file.ts";

/**
 * The numbers of a run for TensorBoard: a file of scalar events, `events.out.tfevents.<seconds>.<host>`, which
 * `tensorboard --logdir` also shows while it grows. One step is one event with one value per name.
 *
 * Formats: event.proto, summary.proto and record_writer.h of TensorFlow.
 */
export class TensorboardLog {
  readonly #file: AppendFile;

  /** Opens a file in `folder`, which is made if it does not exist. @throws {ConfigError} when that cannot be done */
  constructor(folder: string) {
    const seconds = Math.floor(Date.now() / 1000);
    this.#file = new AppendFile(join(folder, `events.out.tfevents.${seconds}.${hostname()}`));
    this.#append(field.fileVersion, delimited(Buffer.from("brain.Event:2")));
  }

  /**
   * Appends the numbers of one step, which is 0 or more. A number that is not finite as float32, the type of a scalar there, is
   * left out.
   *
   * @throws {ConfigError} when the disk is full
   */
  log(step: number, metrics: Readonly<Record<string, number>>): void {
    const scalars = Object.entries(metrics).filter(([, value]) => Number.isFinite(Math.fround(value)));
    if (scalars.length === 0) return;
    const values = scalars.flatMap(([tag, value]) => [field.value, delimited(scalar(tag, value))]);
    this.#append(field.step, varint(step), field.summary, delimited(Buffer.concat(values)));
  }

  /** Closes the file. */
  close(): void {
    this.#file.close();
  }

  #append(...event: readonly Buffer[]): void {
    const wallTime = Buffer.alloc(8);
    wallTime.writeDoubleLE(Date.now() / 1000);
    this.#file.append(tfRecord(Buffer.concat([field.wallTime, wallTime, ...event])));
  }
}

/** What stands before a value in protobuf: its number times 8, plus its wire type (0 varint, 1 64 bits, 2 delimited, 5 32 bits). */
const key = (number: number, wireType: number): Buffer => Buffer.of(number * 8 + wireType);

const field = {
  wallTime: key(1, 1), step: key(2, 0), fileVersion: key(3, 2), summary: key(5, 2), // of Event
  value: key(1, 2), // of Summary
  tag: key(1, 2), simpleValue: key(2, 5), // of Summary.Value
};

function scalar(tag: string, value: number): Buffer {
  const simpleValue = Buffer.alloc(4);
  simpleValue.writeFloatLE(value);
  return Buffer.concat([field.tag, delimited(Buffer.from(tag)), field.simpleValue, simpleValue]);
}

function delimited(bytes: Buffer): Buffer {
  return Buffer.concat([varint(bytes.length), bytes]);
}

/** Seven bits per byte, the lowest first; the eighth says that more follow. */
function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  return Buffer.from([...bytes, rest]);
}

/** Length (64 bits), its checksum, the bytes, their checksum; all little-endian. */
function tfRecord(bytes: Buffer): Buffer {
  const result = Buffer.alloc(bytes.length + 16);
  result.writeBigUInt64LE(BigInt(bytes.length));
  result.writeUInt32LE(maskedCrc(result.subarray(0, 8)), 8);
  bytes.copy(result, 12);
  result.writeUInt32LE(maskedCrc(bytes), bytes.length + 12);
  return result;
}

/** Masked so that the checksum of data that holds checksums is not degenerate. */
function maskedCrc(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

const castagnoli = 0x82f63b78; // the polynomial, lowest bit first

const crcTable = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? castagnoli : 0);
  return crc;
});

/** CRC-32C (Castagnoli; RFC 3720, section 12.1): 0xe3069283 for the bytes of "123456789". */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crcTable[(crc ^ byte) & 0xff] ?? 0) ^ (crc >>> 8);
  return ~crc >>> 0;
}
