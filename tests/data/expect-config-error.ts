import { expect } from "vitest";
import { ConfigError } from "../../src/errors.ts";

/** Passes when `run` throws or rejects with a `ConfigError` whose message matches. */
export async function expectConfigError(run: () => unknown, message: RegExp): Promise<void> {
  let error: unknown;
  try {
    await run();
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toBeInstanceOf(ConfigError);
  expect(error).toMatchObject({ name: "ConfigError", code: "E_CONFIG", message: expect.stringMatching(message) });
}
