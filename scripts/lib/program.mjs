import { spawn } from "node:child_process";
import { constants } from "node:os";
import { createInterface } from "node:readline";
import { Interrupted, SetupError } from "./setup-error.mjs";

/** @type {NodeJS.Signals[]} */
const FORWARDED = ["SIGINT", "SIGTERM", "SIGHUP"];
/** npm forwards what it gets as well, so one key press can arrive twice within moments; the program must see it once. */
const SAME_SIGNAL_MS = 500;

/**
 * @typedef {object} ProgramOptions
 * @property {string} [cwd]
 * @property {NodeJS.ProcessEnv} [env]
 * @property {(line: string) => void} [onLine] Gets each line of output; without it the program writes to our terminal.
 */

/**
 * Runs a part of the set-up to its end and gives its exit code.
 *
 * @param {string} command
 * @param {string[]} args
 * @param {ProgramOptions} [options]
 * @returns {Promise<number>}
 * @throws {Interrupted} when a signal arrived meanwhile
 * @throws {SetupError} when the program cannot be started
 */
export async function runPart(command, args, options) {
  const { exitCode, interrupted } = await run(command, args, options);
  if (interrupted !== undefined) throw new Interrupted(128 + constants.signals[interrupted]);
  return exitCode;
}

/**
 * Runs the program that a task is for. Signals are its own business: it may finish its work first, and its exit code counts.
 *
 * @param {string} command
 * @param {string[]} args
 * @param {ProgramOptions} [options]
 * @returns {Promise<number>} its exit code; 128 plus the signal's number when a signal killed it
 */
export async function runProgram(command, args, options) {
  return (await run(command, args, options)).exitCode;
}

/**
 * @param {string} command
 * @param {string[]} args
 * @param {ProgramOptions} [options]
 * @returns {Promise<{ exitCode: number, interrupted: NodeJS.Signals | undefined }>}
 */
function run(command, args, { cwd, env = process.env, onLine } = {}) {
  const child = spawn(command, args, { cwd, env, stdio: onLine ? ["ignore", "pipe", "pipe"] : "inherit" });
  if (onLine) for (const stream of [child.stdout, child.stderr]) if (stream) createInterface(stream).on("line", onLine);
  const signals = forwardSignals(child);
  return new Promise((resolve, reject) => {
    child.once("error", (cause) => {
      signals.stop();
      reject(new SetupError(`cannot start ${command}: ${cause.message}`, { cause }));
    });
    child.once("close", (code, signal) => {
      signals.stop();
      resolve({ exitCode: signal ? 128 + constants.signals[signal] : (code ?? 1), interrupted: signals.received() });
    });
  });
}

/** @param {import("node:child_process").ChildProcess} child */
function forwardSignals(child) {
  /** @type {NodeJS.Signals | undefined} */
  let received;
  let receivedAt = 0;
  const removals = FORWARDED.map((signal) => {
    const handler = () => {
      const isRepeat = received === signal && Date.now() - receivedAt < SAME_SIGNAL_MS;
      received = signal;
      receivedAt = Date.now();
      // A terminal sends Ctrl-C to every process of the group itself.
      if (!isRepeat && !(signal === "SIGINT" && process.stdin.isTTY)) child.kill(signal);
    };
    process.on(signal, handler);
    return () => process.off(signal, handler);
  });
  const stop = () => {
    for (const remove of removals) remove();
  };
  return { received: () => received, stop };
}
