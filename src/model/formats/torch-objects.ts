import { CheckpointError } from "../../errors.ts";
import type { DType } from "../../native/binding.ts";
import { NO_TENSOR, PickleGlobal, type PickleMeaning, refusal } from "./pickle.ts";

/** A piece of memory that tensors look into, as a pickle refers to it. */
export class StoredStorage {
  readonly key: string;
  readonly dtype: DType;
  /** Number of elements. */
  readonly size: number;

  constructor(key: string, dtype: DType, size: number) {
    this.key = key;
    this.dtype = dtype;
    this.size = size;
  }
}

/** A tensor as a pickle describes it: a view of a storage, in elements. */
export class StoredTensor {
  readonly storage: StoredStorage;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];

  constructor(storage: StoredStorage, offset: number, shape: readonly number[], strides: readonly number[]) {
    this.storage = storage;
    this.offset = offset;
    this.shape = shape;
    this.strides = strides;
  }

  /** Elements of the storage from the tensor's first to its last, both included. */
  get extent(): number {
    if (this.shape.includes(0)) return 0;
    return this.shape.reduce((end, size, i) => end + (size - 1) * (this.strides[i] ?? 0), 1);
  }
}

const storageTypes: Readonly<Record<string, DType>> = {
  "torch.FloatStorage": "float32", "torch.BFloat16Storage": "bfloat16", "torch.HalfStorage": "float16", "torch.DoubleStorage": "float64",
  "torch.LongStorage": "int64", "torch.IntStorage": "int32", "torch.ShortStorage": "int16", "torch.CharStorage": "int8",
  "torch.ByteStorage": "uint8", "torch.BoolStorage": "bool",
};

/** The functions that rebuild what a state dict is made of, from their arguments. */
const functions: Readonly<Record<string, (path: string, args: readonly unknown[]) => unknown>> = {
  "collections.OrderedDict": (path, args) => {
    if (args.length > 0) throw refusal(path, "collections.OrderedDict", "with arguments");
    return new Map();
  },
  "torch._utils._rebuild_tensor": rebuildTensor,
  "torch._utils._rebuild_tensor_v2": rebuildTensor,
  "torch._utils._rebuild_parameter": (path, [tensor]) => {
    if (tensor instanceof StoredTensor) return tensor;
    throw new CheckpointError(`${path}: the pickle is damaged: a parameter is made of no tensor; download it again`);
  },
};

/** Tensors that exist in torch and that no model here is made of, by what their pickles ask for. */
const unsupported: Readonly<Record<string, string>> = {
  "torch._utils._rebuild_tensor_v3": "a tensor in FP8 or another rare dtype",
  "torch._utils._rebuild_qtensor": "a quantised tensor",
  "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
};

/**
 * What names mean in a file of torch.save: tensors are rebuilt as descriptions, and every other name is refused.
 *
 * @param path for messages
 */
export function torchMeaning(path: string): PickleMeaning {
  return {
    global(name) {
      if (Object.hasOwn(functions, name) || Object.hasOwn(storageTypes, name)) return new PickleGlobal(name);
      if (!Object.hasOwn(unsupported, name)) throw refusal(path, name, NO_TENSOR);
      throw new CheckpointError(
        `${path}: holds ${unsupported[name]} (${name}), which tschat does not read; choose the model's version in bfloat16 or float16`,
      );
    },
    call(callable, args) {
      const name = callable instanceof PickleGlobal ? callable.name : typeof callable;
      const rebuild = Object.hasOwn(functions, name) ? functions[name] : undefined;
      if (!rebuild) throw refusal(path, name, "as a function");
      return rebuild(path, args);
    },
    persistent: (id) => readStorage(path, id),
  };
}

/** The id of a storage is ("storage", type, key, device, number of elements), and in the old format what it is a view of, or None. */
function readStorage(path: string, id: unknown): StoredStorage {
  const [kind, type, key, , size, view] = Array.isArray(id) ? (id as unknown[]) : [];
  const dtype = type instanceof PickleGlobal && Object.hasOwn(storageTypes, type.name) ? storageTypes[type.name] : undefined;
  // torch numbers storages; the key becomes part of a name in the archive.
  if (kind === "storage" && dtype && typeof key === "string" && /^\d{1,20}$/.test(key) && isCount(size) && (view ?? null) === null) {
    return new StoredStorage(key, dtype, size);
  }
  const found = typeof key === "string" ? ` (${JSON.stringify(key.slice(0, 40))})` : "";
  throw new CheckpointError(`${path}: the pickle describes a storage${found} in a way that torch.save does not; the file is damaged`);
}

function rebuildTensor(path: string, [storage, offset, shape, strides]: readonly unknown[]): StoredTensor {
  if (!(storage instanceof StoredStorage) || !isCount(offset) || !isCounts(shape) || !isCounts(strides)) {
    throw new CheckpointError(`${path}: the pickle describes a tensor with a malformed offset, shape or strides; the file is damaged`);
  }
  const tensor = new StoredTensor(storage, offset, shape, strides);
  if (shape.length === strides.length && offset + tensor.extent <= storage.size) return tensor;
  const [sizes, steps] = [shape, strides].map((numbers) => `[${numbers.slice(0, 8).join(", ")}]`);
  throw new CheckpointError(
    `${path}: the pickle describes a tensor ${sizes} with strides ${steps} at ${offset}, outside of its storage ${storage.key}, ` +
      `which has ${storage.size} elements; the file is damaged`,
  );
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every(isCount);
}
