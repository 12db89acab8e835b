import { execFile } from "node:child_process";
import { exitCodes } from "../../src/cli/exit-codes.ts";
import { ConfigError } from "../../src/errors.ts";

/**
 * Runs a program to its end and gives the JSON object of its last line of output that is one.
 *
 * @throws {ConfigError} when it ends as our programs do for bad settings, with what it printed as an error
 */
export function runForJson(command: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<unknown> {
  return new Promise((resolve, reject) => {
    execFile(command, args, { env, maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
      if (error?.code === exitCodes.badSettings) {
        reject(new ConfigError(stderr.trim()));
        return;
      }
      const line = stdout.split("\n").findLast((text) => text.startsWith("{"));
      if (error === null && line !== undefined) resolve(JSON.parse(line));
      else reject(new Error(`${command}: ${error?.message ?? "printed no JSON"}\n${stderr.slice(-2000)}`, { cause: error }));
    });
  });
}
