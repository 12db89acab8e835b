import { CheckpointError } from "../../errors.ts";
import type { DType } from "../../native/binding.ts";
import { mapFile } from "../../tensor/create.ts";
import { type FileParts, readParts } from "../../tensor/file-parts.ts";
import { operator } from "../../tensor/operator.ts";
import { Tensor } from "../../tensor/tensor.ts";
import { elementBytes, mappedElements, type WeightFile } from "../../tensor/weight-file.ts";
import { unpickle } from "./pickle.ts";
import { type StoredStorage, StoredTensor, torchMeaning } from "./torch-objects.ts";
import { isZip, readZip } from "./zip.ts";

const asStrided = operator("as_strided");

/** A pickle larger than this is damage: that of a model with 10,000 tensors takes 2 MB. */
const MAX_PICKLE_BYTES = 2 ** 23;
/** The first of the pickles of a file before torch 1.6, and the version in the second. */
const LEGACY_MAGIC = 0x1950a86a20f9469cfc6cn, LEGACY_VERSION = 1001;

/** A state dict, and where each of its storages begins in the file. */
interface Content {
  tensors: ReadonlyMap<string, StoredTensor>;
  starts: ReadonlyMap<string, number>;
  size: number;
}

/**
 * A state dict that `torch.save` wrote (`pytorch_model.bin`), in the zip format or the one before torch 1.6. The file is memory-mapped:
 * opening reads the pickle that describes the tensors, of which nothing is run, and a tensor's bytes are read when it is used.
 */
export class TorchFile implements WeightFile {
  readonly path: string;
  readonly #content: Content;
  readonly #bytes: Tensor;

  /** @throws {CheckpointError} when it is missing, truncated or malformed, or asks for anything but tensors, naming it */
  constructor(path: string) {
    this.path = path;
    this.#content = readParts(path, (file) => (isZip(file.at(0, Math.min(4, file.size))) ? readArchive(file) : readLegacy(file)));
    this.#bytes = mapFile(path, this.#content.size);
  }

  names(): string[] { return [...this.#content.tensors.keys()]; }
  shape(name: string): readonly number[] { return this.#tensor(name).shape; }
  dtype(name: string): DType { return this.#tensor(name).storage.dtype; }

  /** The tensor in its own dtype and strides, a view of the mapped file that must not be written to. */
  read(name: string): Tensor {
    const { storage, offset, extent, shape, strides } = this.#tensor(name);
    const start = (this.#content.starts.get(storage.key) ?? 0) + offset * elementBytes[storage.dtype];
    const elements = mappedElements(this.#bytes, start, start + extent * elementBytes[storage.dtype], storage.dtype);
    return new Tensor(asStrided(elements.handle, shape, strides));
  }

  #tensor(name: string): StoredTensor {
    const tensor = this.#content.tensors.get(name);
    if (!tensor) throw new CheckpointError(`${this.path}: no tensor "${name}"`);
    return tensor;
  }
}

/** The zip format: `<any>/data.pkl` with the pickle, and the storages as `<any>/data/<key>`. */
function readArchive(file: FileParts): Content {
  const { path } = file;
  const entries = readZip(file);
  const [pickle = "", second] = [...entries.keys()].filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  const entry = entries.get(pickle), prefix = pickle.slice(0, -"data.pkl".length);
  if (!entry || second !== undefined) {
    throw new CheckpointError(`${path}: a zip archive, but none of torch.save: ${entry ? "has several" : "has no"} <name>/data.pkl`);
  }
  if (entries.has(`${prefix}constants.pkl`)) {
    throw new CheckpointError(`${path}: a TorchScript program, not a file of weights; use the model's weights`);
  }
  const order = entries.get(`${prefix}byteorder`);
  if (order && file.at(order.start, Math.min(order.size, 16)).toString("latin1") !== "little") throw bigEndian(path);
  if (entry.size > MAX_PICKLE_BYTES) throw new CheckpointError(`${path}: its pickle claims ${entry.size} bytes; the file is damaged`);
  const { value } = unpickle(path, file.at(entry.start, entry.size), 0, torchMeaning(path));
  const tensors = stateDict(path, value);
  const starts = new Map<string, number>();
  for (const storage of storagesOf(tensors).values()) {
    const data = entries.get(`${prefix}data/${storage.key}`);
    checkStorage(path, storage, data?.size);
    starts.set(storage.key, data?.start ?? 0);
  }
  return { tensors, starts, size: file.size };
}

/**
 * The format before torch 1.6: pickles of a magic number, a version, the machine, the state dict and the list of its storages' keys; then
 * the storages in this order, each behind its number of elements.
 */
function readLegacy(file: FileParts): Content {
  const { path, size } = file;
  const head = file.at(0, Math.min(size, MAX_PICKLE_BYTES));
  // Protocol 2 begins all pickles of torch; anything else is another kind of file, and its bytes would make no sense as opcodes.
  if (head.length < 2 || head.readUInt16BE(0) !== 0x8002) {
    throw new CheckpointError(`${path}: neither a zip archive nor a pickle, as files of torch.save are; download it again`);
  }
  let at = 0;
  const next = (): unknown => {
    const { value, end } = unpickle(path, head, at, torchMeaning(path));
    at = end;
    return value;
  };
  if (next() !== LEGACY_MAGIC || next() !== LEGACY_VERSION) {
    throw new CheckpointError(
      `${path}: a pickle, but none of torch.save, whose first values are a magic number and version ${LEGACY_VERSION}`,
    );
  }
  const machine = next();
  if (machine instanceof Map && machine.get("little_endian") === false) throw bigEndian(path);
  const tensors = stateDict(path, next());
  const keys = next();
  if (!Array.isArray(keys)) throw new CheckpointError(`${path}: has no list of storages; the file is damaged`);
  const storages = storagesOf(tensors);
  const starts = new Map<string, number>();
  for (const key of keys as unknown[]) {
    if (typeof key !== "string") throw new CheckpointError(`${path}: the key of a storage is no text; the file is damaged`);
    const count = Number(file.at(at, 8).readBigInt64LE(0));
    const storage = storages.get(key);
    // Where a storage begins follows from the length of those before it, so there may be none of unknown dtype.
    if (!storage) throw new CheckpointError(`${path}: holds storage ${JSON.stringify(key.slice(0, 40))} of no tensor; the file is damaged`);
    const bytes = count * elementBytes[storage.dtype];
    checkStorage(path, storage, bytes);
    if (at + 8 + bytes > size) {
      throw new CheckpointError(
        `${path}: truncated: storage ${storage.key} ends at byte ${at + 8 + bytes}, the file has ${size}; download it again`,
      );
    }
    starts.set(storage.key, at + 8);
    at += 8 + bytes;
  }
  for (const storage of storages.values()) if (!starts.has(storage.key)) checkStorage(path, storage, undefined);
  return { tensors, starts, size };
}

function bigEndian(path: string): CheckpointError {
  return new CheckpointError(`${path}: written by a big-endian machine, which tschat does not read; use the model's safetensors`);
}

/** The pickled value as named tensors: that of a model has nothing else in it. */
function stateDict(path: string, value: unknown): ReadonlyMap<string, StoredTensor> {
  const isModel = value instanceof Map && value.size > 0;
  if (!isModel) throw new CheckpointError(`${path}: expected named tensors, found something else; give the file of a model's weights`);
  for (const [name, tensor] of value) {
    if (typeof name === "string" && tensor instanceof StoredTensor) continue;
    throw new CheckpointError(
      `${path}: ${JSON.stringify(name)} is no tensor: this looks like a training state, not like a model; ` +
        "save the model's state dict alone",
    );
  }
  return value as ReadonlyMap<string, StoredTensor>;
}

/** The storages of some tensors by their keys; several tensors may share one. */
function storagesOf(tensors: ReadonlyMap<string, StoredTensor>): ReadonlyMap<string, StoredStorage> {
  const storages = new Map<string, StoredStorage>();
  for (const [, { storage }] of tensors) {
    const other = storages.get(storage.key);
    if (!other || other.size * elementBytes[other.dtype] < storage.size * elementBytes[storage.dtype]) storages.set(storage.key, storage);
  }
  return storages;
}

/** @param found bytes that the file has of it */
function checkStorage(path: string, { key, dtype, size }: StoredStorage, found: number | undefined): void {
  const expected = size * elementBytes[dtype];
  if (found !== undefined && found >= expected) return;
  throw new CheckpointError(
    `${path}: storage ${key} has ${found ?? "no"} bytes in the file, its tensors need ${expected}; the file is damaged, download it again`,
  );
}
