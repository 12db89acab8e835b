/** What `action` throws, as a plain record. @throws {Error} when it throws nothing */
export function failure(action: () => unknown): { name: string; code: unknown; message: string } {
  try {
    action();
  } catch (error) {
    return describe(error);
  }
  throw new Error("expected an error, got none");
}

/** What the promise of `action` is rejected with, as a plain record. @throws {Error} when it is fulfilled */
export async function rejection(action: () => Promise<unknown>): Promise<{ name: string; code: unknown; message: string }> {
  try {
    await action();
  } catch (error) {
    return describe(error);
  }
  throw new Error("expected an error, got none");
}

function describe(error: unknown): { name: string; code: unknown; message: string } {
  if (!(error instanceof Error)) throw new Error(`expected an Error, got ${String(error)}`);
  return { name: error.name, code: "code" in error ? error.code : undefined, message: error.message };
}
