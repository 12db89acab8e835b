import { CheckpointError, ConfigError, HubError, Interrupted } from "../errors.ts";

/** The exit codes of every command. */
export const exitCodes = { ok: 0, failure: 1, badSettings: 2, noImprovement: 3, interrupted: 130 } as const;

const meanings: Readonly<Record<keyof typeof exitCodes, string>> = {
  ok: "done",
  failure: "failed; the message says why",
  badSettings: "the settings or files cannot be run",
  noImprovement: "quickstart: the reward did not rise by three standard errors",
  interrupted: "stopped by Ctrl-C or SIGTERM, after saving",
};

/** The end of every help text: exit codes and environment variables. */
export const epilogue = `Exit codes:
${Object.entries(exitCodes).map(([name, code]) => `  ${String(code).padEnd(4)} ${meanings[name as keyof typeof exitCodes]}`).join("\n")}

Environment:
  OMP_NUM_THREADS  processor threads, as --threads
  HF_HOME, HF_TOKEN, HF_HUB_OFFLINE=1, HF_ENDPOINT
                   cache, token, no network, mirror of the Hugging Face hub
  TSCHAT_DEBUG=1   print the stack of an error`;

/** What to print for an error that ended a command, and its exit code. */
export function describeFailure(error: unknown): { readonly message: string; readonly exitCode: number } {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof Interrupted) return { message, exitCode: exitCodes.interrupted };
  if (error instanceof ConfigError || error instanceof CheckpointError) return { message, exitCode: exitCodes.badSettings };
  if (error instanceof HubError) return { message, exitCode: exitCodes.failure };
  const name = error instanceof Error ? `${error.name}: ` : "";
  return { message: `${name}${message}\n(TSCHAT_DEBUG=1 prints the whole error)`, exitCode: exitCodes.failure };
}
