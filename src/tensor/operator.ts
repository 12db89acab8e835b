import { NativeError, OutOfMemoryError } from "../errors.ts";
import { binding, type NativeArgument, type NativeResult, type OpHandle, type TensorHandle } from "../native/binding.ts";

/** One bound operator; the caller knows what its schema returns. */
export type Operator<Result extends NativeResult> = (...args: NativeArgument[]) => Result;

/**
 * Binds one operator of libtorch, e.g. `operator("add", "Tensor")`; `aten::` is implied. It is looked up on first use.
 * An argument left `undefined` takes the default of the operator's schema.
 *
 * @throws {NativeError} naming the operator and the dtype and shape of every tensor it was given
 */
export function operator<Result extends NativeResult = TensorHandle>(name: string, overload = ""): Operator<Result> {
  let op: OpHandle | undefined;
  return (...args) => {
    op ??= binding.findOp(name.includes("::") ? name : `aten::${name}`, overload);
    try {
      return binding.callOp(op, ...args) as Result;
    } catch (cause) {
      throw explain(`${name}(${args.map(describe).join(", ")})`, cause);
    }
  };
}

/** The error for a native call that failed, with what was called in front of libtorch's own first line. */
export function explain(call: string, cause: unknown): Error {
  const code = (cause as { code?: unknown }).code;
  if (code !== "E_NATIVE" && code !== "E_MEMORY" && code !== "E_ARGUMENT") return cause as Error;
  const message = `${call}: ${firstLine((cause as Error).message)}`;
  if (code === "E_MEMORY") return new OutOfMemoryError(`${message}; use a smaller batch, shorter sequences or a smaller dtype`, { cause });
  return new NativeError(message, { cause });
}

/** `float32[4, 128]` for a tensor, the literal for anything else. */
function describe(arg: NativeArgument): string {
  if (arg === undefined) return "default";
  if (Array.isArray(arg)) return arg.length > 8 ? `[${arg.length} elements]` : `[${arg.map(describe).join(", ")}]`;
  if (typeof arg === "bigint") return `${arg}n`;
  if (typeof arg !== "object" || arg === null) return JSON.stringify(arg);
  try {
    const tensor = arg as TensorHandle;
    return `${binding.dtypeOf(tensor)}[${binding.shapeOf(tensor).join(", ")}]`;
  } catch {
    return "not a live tensor"; // a freed tensor or foreign object: the operator's own message says which
  }
}

/** libtorch may append further lines for its own developers; the first one is for the reader. */
function firstLine(message: string): string {
  return message.split("\n", 1)[0] ?? message;
}
