import type { Tensor } from "./tensor.ts";

type Scope = Set<Tensor>;
const scopes: Scope[] = [];

/** Notes a new tensor in the innermost open scope; called by the constructor of Tensor only. */
export function track(tensor: Tensor): void {
  scopes.at(-1)?.add(tensor);
}

/** Throws when `result` is a promise: what follows an `await` would run after the scope has ended. */
export function refusePromise(name: string, result: unknown): void {
  if (typeof (result as PromiseLike<unknown> | null)?.then === "function") {
    throw new TypeError(`${name}(): expected a synchronous function, got one that returns a promise; await outside of ${name}()`);
  }
}

/**
 * Runs `body` and frees at once every tensor made inside it except those in its result (a tensor, or an array or
 * record of tensors). Memory is freed without it too, but later; use it where a peak matters.
 *
 * @throws {TypeError} when `body` returns a promise
 */
export function tidy<Result>(body: () => Result): Result {
  const scope: Scope = new Set();
  scopes.push(scope);
  let result: Result;
  try {
    result = body();
    refusePromise("tidy", result);
  } catch (error) {
    scopes.pop();
    for (const tensor of scope) tensor.dispose();
    throw error;
  }
  scopes.pop();
  const kept = new Set<unknown>();
  collect(result, kept);
  for (const tensor of scope) {
    if (kept.has(tensor)) track(tensor);
    else tensor.dispose();
  }
  return result;
}

/** Runs `body`, whose tensors outlive any `tidy` around the call: they belong to an object that lives longer. */
export function untracked<Result>(body: () => Result): Result {
  scopes.push(new Set());
  try {
    return body();
  } finally {
    scopes.pop();
  }
}

function collect(value: unknown, into: Set<unknown>): void {
  if (typeof value !== "object" || value === null || into.has(value) || ArrayBuffer.isView(value)) return;
  into.add(value);
  if (value instanceof Map) for (const inner of value.values()) collect(inner, into);
  else if ("handle" in value) return;
  else for (const inner of Object.values(value)) collect(inner, into);
}
