/** Bytes of a zip archive of stored files, as torch.save makes it. */
export interface ZipOptions {
  /** Sizes and offsets in zip64 records. */
  zip64?: boolean;
  /** Compression method; the content stays as it is. */
  method?: number;
}

/** Assembles a zip archive; the same name may come twice. */
export function zip(
  files: readonly (readonly [name: string, content: Uint8Array])[],
  { zip64 = false, method = 0 }: ZipOptions = {},
): Buffer {
  const parts: Buffer[] = [],
    directory: Buffer[] = [];
  let at = 0;
  const add = (part: Buffer) => {
    parts.push(part);
    at += part.length;
  };
  for (const [name, content] of files) {
    const start = at,
      short = zip64 ? 0xffffffff : content.length;
    const extra = zip64 ? [u16(1), u16(24), u64(content.length), u64(content.length), u64(start)] : [];
    add(join(u32(0x04034b50), u16(45), u16(0), u16(method), u32(0), u32(0), u32(short), u32(short), u16(name.length), u16(0), ascii(name)));
    add(Buffer.from(content));
    directory.push(
      join(
        u32(0x02014b50),
        u16(45),
        u16(45),
        u16(0),
        u16(method),
        u32(0),
        u32(0),
        u32(short),
        u32(short),
        u16(name.length),
        u16(zip64 ? 28 : 0),
        u16(0),
        u16(0),
        u16(0),
        u32(0),
        u32(zip64 ? 0xffffffff : start),
        ascii(name),
        ...extra,
      ),
    );
  }
  const start = at,
    size = directory.reduce((sum, { length }) => sum + length, 0);
  for (const entry of directory) add(entry);
  if (zip64) {
    const record = at;
    add(join(u32(0x06064b50), u64(44), u16(45), u16(45), u32(0), u32(0), u64(files.length), u64(files.length), u64(size), u64(start)));
    add(join(u32(0x07064b50), u32(0), u64(record), u32(1)));
  }
  const [count, length, offset] = zip64 ? [0xffff, 0xffffffff, 0xffffffff] : [files.length, size, start];
  add(join(u32(0x06054b50), u16(0), u16(0), u16(count), u16(count), u32(length), u32(offset), u16(0)));
  return Buffer.concat(parts);
}

/** A file of torch.save around a pickle, with storage "0" of the four float32 numbers 1 to 4 unless told otherwise. */
export function archive(
  pickle: Buffer,
  storages: Readonly<Record<string, Uint8Array>> = { 0: floats(1, 2, 3, 4) },
  options?: ZipOptions,
): Buffer {
  const data = Object.entries(storages).map(([key, bytes]) => [`m/data/${key}`, bytes] as const);
  return zip([["m/data.pkl", pickle], ["m/byteorder", ascii("little")], ...data, ["m/version", ascii("3\n")]], options);
}

/** Numbers as float32. */
export function floats(...numbers: number[]): Uint8Array {
  return new Uint8Array(Float32Array.from(numbers).buffer);
}

// ---- opcodes of pickles, by the names of Python's pickletools ----

type Part = Buffer | string;

/** Opcodes in a row. */
export function join(...parts: Part[]): Buffer {
  return Buffer.concat(parts.map((part) => (typeof part === "string" ? ascii(part) : part)));
}
/** A whole pickle of protocol 2. */
export function pickle(...parts: Part[]): Buffer {
  return join("\x80\x02", ...parts, ".");
}
/** BINUNICODE */
export function text(value: string): Buffer {
  return join("X", u32(value.length), value);
}
/** GLOBAL */
export function global(module: string, name: string): Buffer {
  return ascii(`c${module}\n${name}\n`);
}
/** BININT */
export function int(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return join("J", bytes);
}
/** LONG1 of 8 bytes */
export function long(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(value);
  return join("\x8a\x08", bytes);
}
/** A tuple of any length. */
export function tuple(...parts: Part[]): Buffer {
  return join("(", ...parts, "t");
}
/** The call of a function. */
export function call(module: string, name: string, ...args: Part[]): Buffer {
  return join(global(module, name), tuple(...args), "R");
}

/** What a test changes about the tensor `weight`, which is a view of storage "0". */
export interface TensorParts {
  key?: string;
  type?: string;
  numel?: Buffer;
  offset?: Buffer;
  shape?: readonly Buffer[];
  strides?: readonly Buffer[];
}

/** The call that rebuilds a tensor: [2, 2] of storage "0" unless told otherwise. */
export function tensorCall(parts: TensorParts = {}): Buffer {
  const { key = "0", type = "FloatStorage", numel = int(4), offset = int(0), shape = [int(2), int(2)], strides = [int(2), int(1)] } = parts;
  const storage = join(tuple(text("storage"), global("torch", type), text(key), text("cpu"), numel), "Q");
  return call(
    "torch._utils",
    "_rebuild_tensor_v2",
    storage,
    offset,
    tuple(...shape),
    tuple(...strides),
    "\x89",
    call("collections", "OrderedDict"),
  );
}

/** A state dict with one tensor, `weight`. */
export function stateDict(weight: Buffer): Buffer {
  return pickle("}", text("weight"), weight, "s");
}

function ascii(value: string): Buffer {
  return Buffer.from(value, "latin1");
}
/** Two bytes, little-endian. */
export function u16(value: number): Buffer {
  return Buffer.from([value & 255, value >>> 8]);
}
/** Four bytes, little-endian. */
export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
/** Eight bytes, little-endian. */
export function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}
