import { CheckpointError } from "../../errors.ts";

/** A class or function that a pickle names; only a name here, nothing is imported. */
export class PickleGlobal {
  readonly name: string;
  constructor(name: string) { this.name = name; }
}

/** What gives a pickle's names a meaning. All three throw CheckpointError for what they do not know. */
export interface PickleMeaning {
  /** The value of a global, e.g. "collections.OrderedDict". */
  global(name: string): unknown;
  /** What calling a global gives. */
  call(callable: unknown, args: readonly unknown[]): unknown;
  /** What stands outside of the pickle under this id. */
  persistent(id: unknown): unknown;
}

/** A value that was read, and where the next pickle begins. */
export interface Unpickled {
  readonly value: unknown;
  readonly end: number;
}

/**
 * Reads one pickle of protocol 2, the one of torch.save, without running anything: data are built (None, booleans, numbers, strings,
 * tuples and lists as arrays, dictionaries as Maps), and a name means only what `meaning` says. Opcodes that make objects in other
 * ways are refused.
 *
 * @param path for messages
 * @throws {CheckpointError} naming the class, function or opcode that was refused, or saying where the pickle is damaged
 */
export function unpickle(path: string, bytes: Buffer, start: number, meaning: PickleMeaning): Unpickled {
  return new Machine(path, bytes, start, meaning).run();
}

/** The reason for what has no place in a state dict. */
export const NO_TENSOR = "which is no part of a tensor";

/** The message for a pickle that wants more than data. */
export function refusal(path: string, name: string, reason: string): CheckpointError {
  return new CheckpointError(
    `${path}: its pickle asks for ${JSON.stringify(name.slice(0, 100))}, ${reason}; a pickle can run any code, so tschat reads ` +
      "nothing but tensors from it: use the model's safetensors, or convert the file where you trust it",
  );
}

type Opcode = (machine: Machine) => void;

/** The stack machine of Python's pickletools. Every step consumes a byte at least, and nothing here recurses. */
class Machine {
  readonly path: string;
  readonly meaning: PickleMeaning;
  readonly #bytes: Buffer;
  #at: number;
  readonly #stack: unknown[] = [];
  /** Heights of the stack at the open marks. */
  readonly #marks: number[] = [];
  readonly #memo = new Map<number, unknown>();

  constructor(path: string, bytes: Buffer, start: number, meaning: PickleMeaning) {
    this.path = path;
    this.meaning = meaning;
    this.#bytes = bytes;
    this.#at = start;
  }

  run(): Unpickled {
    for (;;) {
      const code = this.take(1).readUInt8(0);
      if (code === STOP) return { value: this.pop(), end: this.#at };
      const opcode = opcodes.get(code);
      if (!opcode) throw refusal(this.path, refused.get(code)?.(this) ?? `opcode 0x${code.toString(16)}`, NO_TENSOR);
      opcode(this);
    }
  }

  damaged(what: string): CheckpointError {
    return new CheckpointError(`${this.path}: the pickle is damaged at byte ${this.#at}: ${what}; download it again`);
  }
  /** The next bytes. */
  take(length: number): Buffer {
    if (length < 0 || this.#at + length > this.#bytes.length) throw this.damaged(`${length} more bytes expected, it ends before`);
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }
  /** The text up to the next line feed. */
  line(): string {
    const end = this.#bytes.indexOf(10, this.#at);
    if (end < 0) throw this.damaged("a name does not end");
    const text = this.#bytes.toString("utf8", this.#at, end);
    this.#at = end + 1;
    return text;
  }

  push(value: unknown): void { this.#stack.push(value); }
  pop(): unknown {
    if (this.#stack.length <= (this.#marks.at(-1) ?? 0)) throw this.damaged("the stack is empty");
    return this.#stack.pop();
  }
  get top(): unknown {
    const value = this.pop();
    this.push(value);
    return value;
  }
  mark(): void { this.#marks.push(this.#stack.length); }
  /** Everything above the last mark. */
  popMarked(): unknown[] {
    const mark = this.#marks.pop();
    if (mark === undefined) throw this.damaged("no mark is set");
    return this.#stack.splice(mark);
  }
  remember(key: number): void { this.#memo.set(key, this.top); }
  recall(key: number): void {
    if (!this.#memo.has(key)) throw this.damaged(`value ${key} is used before it is there`);
    this.push(this.#memo.get(key));
  }

  /** Puts pairs of key and value into the dictionary on top. */
  setItems(items: readonly unknown[]): void {
    const dictionary = this.top;
    if (!(dictionary instanceof Map) || items.length % 2 !== 0) throw this.damaged("items are set where there is no dictionary");
    for (let i = 0; i < items.length; i += 2) {
      const key = items[i];
      if (typeof key !== "string" && typeof key !== "number") throw this.damaged("a key is neither text nor a number");
      dictionary.set(key, items[i + 1]);
    }
  }
  append(items: readonly unknown[]): void {
    const list = this.top;
    if (!Array.isArray(list)) throw this.damaged("something is appended where there is no list");
    for (const item of items) list.push(item);
  }
  call(): void {
    const args = this.pop(), callable = this.pop();
    if (!Array.isArray(args)) throw this.damaged("arguments are no tuple");
    this.push(this.meaning.call(callable, args));
  }
  /** The attributes of a dictionary (`_metadata` of a state dict) are left out; nothing else has any. */
  build(): void {
    this.pop();
    if (!(this.top instanceof Map)) throw refusal(this.path, "BUILD", "which sets the state of an object");
  }
}

const STOP = 0x2e;
const text = (bytes: Buffer): string => bytes.toString("utf8");

/** Two's complement, little-endian; a bigint where a number is not exact. */
function integer(bytes: Buffer): number | bigint {
  let value = 0n;
  for (const byte of [...bytes].reverse()) value = (value << 8n) | BigInt(byte);
  value = BigInt.asIntN(bytes.length * 8, value);
  return Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

/** What torch.save writes, by opcode; names as in Python's pickletools. */
const opcodes: ReadonlyMap<number, Opcode> = new Map<number, Opcode>([
  [0x80, (m) => {
    const version = m.take(1).readUInt8(0);
    if (version === 2) return;
    throw new CheckpointError(`${m.path}: its pickle has protocol ${version}, expected 2, the one of torch.save; save it again`);
  }], // PROTO
  [0x28, (m) => m.mark()], // MARK
  [0x4e, (m) => m.push(null)], // NONE
  [0x88, (m) => m.push(true)], // NEWTRUE
  [0x89, (m) => m.push(false)], // NEWFALSE
  [0x4a, (m) => m.push(m.take(4).readInt32LE(0))], // BININT
  [0x4b, (m) => m.push(m.take(1).readUInt8(0))], // BININT1
  [0x4d, (m) => m.push(m.take(2).readUInt16LE(0))], // BININT2
  [0x8a, (m) => m.push(integer(m.take(m.take(1).readUInt8(0))))], // LONG1
  [0x47, (m) => m.push(m.take(8).readDoubleBE(0))], // BINFLOAT
  [0x58, (m) => m.push(text(m.take(m.take(4).readUInt32LE(0))))], // BINUNICODE
  [0x54, (m) => m.push(text(m.take(m.take(4).readInt32LE(0))))], // BINSTRING
  [0x55, (m) => m.push(text(m.take(m.take(1).readUInt8(0))))], // SHORT_BINSTRING
  [0x29, (m) => m.push([])], // EMPTY_TUPLE
  [0x85, (m) => m.push([m.pop()])], // TUPLE1
  [0x86, (m) => m.push([m.pop(), m.pop()].reverse())], // TUPLE2
  [0x87, (m) => m.push([m.pop(), m.pop(), m.pop()].reverse())], // TUPLE3
  [0x74, (m) => m.push(m.popMarked())], // TUPLE
  [0x5d, (m) => m.push([])], // EMPTY_LIST
  [0x61, (m) => m.append([m.pop()])], // APPEND
  [0x65, (m) => m.append(m.popMarked())], // APPENDS
  [0x7d, (m) => m.push(new Map())], // EMPTY_DICT
  [0x73, (m) => m.setItems([m.pop(), m.pop()].reverse())], // SETITEM
  [0x75, (m) => m.setItems(m.popMarked())], // SETITEMS
  [0x71, (m) => m.remember(m.take(1).readUInt8(0))], // BINPUT
  [0x72, (m) => m.remember(m.take(4).readUInt32LE(0))], // LONG_BINPUT
  [0x68, (m) => m.recall(m.take(1).readUInt8(0))], // BINGET
  [0x6a, (m) => m.recall(m.take(4).readUInt32LE(0))], // LONG_BINGET
  [0x63, (m) => m.push(m.meaning.global(`${m.line()}.${m.line()}`))], // GLOBAL
  [0x51, (m) => m.push(m.meaning.persistent(m.pop()))], // BINPERSID
  [0x52, (m) => m.call()], // REDUCE
  [0x62, (m) => m.build()], // BUILD
]);

/** What to call the opcodes that would make or find objects in other ways. */
const refused: ReadonlyMap<number, (machine: Machine) => string> = new Map<number, (machine: Machine) => string>([
  [0x69, (m) => `${m.line()}.${m.line()}`], // INST has the name in it
  [0x93, (m) => { // STACK_GLOBAL has it on the stack
    const name = m.pop(), module = m.pop();
    return typeof name === "string" && typeof module === "string" ? `${module}.${name}` : "STACK_GLOBAL";
  }],
  [0x6f, () => "OBJ"], [0x81, () => "NEWOBJ"], [0x92, () => "NEWOBJ_EX"],
  [0x82, () => "EXT1"], [0x83, () => "EXT2"], [0x84, () => "EXT4"], [0x50, () => "PERSID"],
]);
