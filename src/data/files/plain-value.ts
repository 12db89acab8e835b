/**
 * A value of a column as JSON would hold it, so that a record is the same from every file format: 64-bit integers are numbers
 * where a number holds them exactly and otherwise decimal strings, times are ISO 8601, bytes are text, NaN is null.
 */
export function plainValue(value: unknown): unknown {
  if (value === undefined || value === null) return null;
  switch (typeof value) {
    case "bigint": return Number.isSafeInteger(Number(value)) ? Number(value) : value.toString();
    case "number": return Number.isFinite(value) ? value : null;
    case "object": return plainObject(value);
    default: return value;
  }
}

function plainObject(value: object): unknown {
  if (Array.isArray(value)) return value.map(plainValue);
  if (value instanceof Date) return value.toISOString();
  if (value instanceof Uint8Array) return new TextDecoder().decode(value);
  if (ArrayBuffer.isView(value)) return Array.from(value as unknown as ArrayLike<number | bigint>, plainValue);
  if (isVector(value)) return Array.from({ length: value.length }, (_, i) => plainValue(value.get(i)));
  const entries = Symbol.iterator in value ? (value as Iterable<[string, unknown]>) : Object.entries(value);
  return Object.fromEntries(Array.from(entries, ([key, field]) => [key, plainValue(field)]));
}

/** Apache Arrow's vectors, which lists come as. */
function isVector(value: object): value is { length: number; get(index: number): unknown } {
  return "length" in value && "get" in value && typeof value.get === "function";
}
