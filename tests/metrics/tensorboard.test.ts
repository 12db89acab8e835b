import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { crc32c, TensorboardLog } from "../../src/metrics/tensorboard.ts";
import { failure } from "../failure.ts";
import { temporaryFolder } from "../temporary-folder.ts";

/** CRC-32C of RFC 3720, section 12.1, one bit at a time from the highest: bytes and result reflected, unlike the code's table. */
function slowCrc(bytes: Uint8Array): number {
  const reversed = (value: number, bits: number): number =>
    Number.parseInt(value.toString(2).padStart(bits, "0").split("").reverse().join(""), 2);
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc = (crc ^ (reversed(byte, 8) << 24)) >>> 0;
    for (let bit = 0; bit < 8; bit++) crc = ((crc << 1) ^ (crc >= 0x80000000 ? 0x1edc6f41 : 0)) >>> 0;
  }
  return reversed(~crc >>> 0, 32);
}

/** TensorFlow's mask: rotated right by 15 bits, plus a constant, modulo 2^32. */
function slowMaskedCrc(bytes: Uint8Array): number {
  const crc = BigInt(slowCrc(bytes));
  return Number(((crc >> 15n) + (crc % 2n ** 15n) * 2n ** 17n + 0xa282ead8n) % 2n ** 32n);
}

/** The records of a TFRecord file; both checksums of each must be right. */
function readRecords(file: Buffer): Buffer[] {
  const records: Buffer[] = [];
  for (let at = 0; at < file.length;) {
    const length = Number(file.readBigUInt64LE(at));
    const bytes = file.subarray(at + 12, at + 12 + length);
    expect(file.readUInt32LE(at + 8)).toBe(slowMaskedCrc(file.subarray(at, at + 8)));
    expect(file.readUInt32LE(at + 12 + length)).toBe(slowMaskedCrc(bytes));
    records.push(bytes);
    at += 16 + length;
  }
  return records;
}

type Field = readonly [number: number, value: bigint | Buffer];

/** The fields of a protobuf message; the value of a number is a bigint (varint) or its bytes. */
function readFields(message: Buffer): Field[] {
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = message.readUInt8(at++);
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return value;
    }
  };
  const bytes = (length: number): Buffer => {
    at += length;
    return message.subarray(at - length, at);
  };
  const readers: Record<number, () => bigint | Buffer> = {
    0: varint, 1: () => bytes(8), 2: () => bytes(Number(varint())), 5: () => bytes(4),
  };
  const fields: Field[] = [];
  while (at < message.length) {
    const key = Number(varint());
    fields.push([key >> 3, readers[key & 7]?.() ?? Buffer.of()]);
  }
  return fields;
}

const bytesOf = (value: bigint | Buffer | undefined): Buffer => (Buffer.isBuffer(value) ? value : Buffer.of());

/** An event as plain values. */
function readEvent(record: Buffer): { wallTime: number; step?: bigint; fileVersion?: string; scalars?: Record<string, number> } {
  const event = Object.fromEntries(readFields(record));
  const values = readFields(bytesOf(event[5])).map(([, value]) => Object.fromEntries(readFields(bytesOf(value))));
  return {
    wallTime: bytesOf(event[1]).readDoubleLE(),
    ...(typeof event[2] === "bigint" && { step: event[2] }),
    ...(event[3] !== undefined && { fileVersion: String(event[3]) }),
    ...(event[5] !== undefined && {
      scalars: Object.fromEntries(values.map((value) => [String(value[1]), bytesOf(value[2]).readFloatLE()])),
    }),
  };
}

/** The events in the only file of a folder. */
function readFolder(folder: string): ReturnType<typeof readEvent>[] {
  const [name = "", ...more] = readdirSync(folder);
  expect(more).toEqual([]);
  return readRecords(readFileSync(join(folder, name))).map(readEvent);
}

test("the checksum is CRC-32C", () => {
  // From RFC 3720, appendix B.4, and the usual check value.
  const ascending = Uint8Array.from({ length: 32 }, (_, i) => i);
  for (const [bytes, crc] of [
    [Buffer.from("123456789"), 0xe3069283], [Buffer.alloc(0), 0], [Buffer.alloc(32), 0x8a9136aa], [Buffer.alloc(32, 0xff), 0x62a8ab43],
    [ascending, 0x46dd794e], [ascending.toReversed(), 0x113fdb5c],
  ] as const) {
    expect(crc32c(bytes)).toBe(crc);
    expect(slowCrc(bytes)).toBe(crc); // the one that reads the files below
  }
});

test("each step is an event with its time and its numbers, readable at once", () => {
  const folder = join(temporaryFolder(), "run", "tensorboard");
  const before = Date.now() / 1000;
  const log = new TensorboardLog(folder);
  log.log(0, { loss: 2.5, "gr\u00f6\u00dfe": -0.125 });
  log.log(300, { loss: 0.1 }); // a step and a message of two varint bytes
  log.log(2 ** 40 + 1, Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`metric${i}`, i])));
  const events = readFolder(folder);
  const after = Date.now() / 1000;
  log.close();

  expect(events.map(({ wallTime: _, ...event }) => event)).toEqual([
    { fileVersion: "brain.Event:2" },
    { step: 0n, scalars: { loss: 2.5, "gr\u00f6\u00dfe": -0.125 } },
    { step: 300n, scalars: { loss: 0.10000000149011612 } }, // the float32 nearest to 0.1
    { step: 1099511627777n, scalars: Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`metric${i}`, i])) },
  ]);
  for (const { wallTime } of events) {
    expect(wallTime).toBeGreaterThanOrEqual(before);
    expect(wallTime).toBeLessThanOrEqual(after);
  }
});

test("the file has the name that TensorBoard looks for", () => {
  const folder = temporaryFolder();
  const before = Math.floor(Date.now() / 1000);
  new TensorboardLog(folder).close();
  const [prefix, seconds, host] = /^(events\.out\.tfevents\.)(\d{10})\.(.+)$/.exec(readdirSync(folder)[0] ?? "")?.slice(1) ?? [];
  expect([prefix, host]).toEqual(["events.out.tfevents.", hostname()]);
  expect(Number(seconds)).toBeGreaterThanOrEqual(before);
  expect(Number(seconds)).toBeLessThanOrEqual(Date.now() / 1000);
});

test("numbers that are not finite as float32 are left out, and a step without others too", () => {
  const folder = temporaryFolder();
  const log = new TensorboardLog(folder);
  log.log(1, { loss: NaN, kl: 0.5, norm: -Infinity, ratio: 1e39 }); // float32 ends at 3.4e38
  log.log(2, { loss: NaN });
  log.log(3, {});
  log.close();
  const [, ...steps] = readFolder(folder);
  expect(steps).toEqual([{ wallTime: expect.any(Number), step: 1n, scalars: { kl: 0.5 } }]);
});

test("a folder that cannot be made is an error that names the file", () => {
  const file = join(temporaryFolder(), "tensorboard");
  writeFileSync(file, "");
  const { name, code, message } = failure(() => new TensorboardLog(file));
  expect([name, code]).toEqual(["ConfigError", "E_CONFIG"]);
  expect(message).toMatch(/^could not write .*\/tensorboard\/events\.out\.tfevents\.\d+\..+: file already exists$/);
});
