/** The user's settings, data or files cannot be run. The command line prints the message alone and exits with 2. */
export class ConfigError extends Error {
  override readonly name: string = "ConfigError";
  readonly code: string = "E_CONFIG";
}

/** A checkpoint is missing, malformed or does not fit the model; the message names the file and the key. Exit code 2. */
export class CheckpointError extends Error {
  override readonly name: string = "CheckpointError";
  readonly code: string = "E_CHECKPOINT";
}

/** libtorch refused an operator; the message names the operator with dtypes and shapes, `cause` has the full text. Exit code 1. */
export class NativeError extends Error {
  override readonly name: string = "NativeError";
  readonly code: string = "E_NATIVE";
}

/** An allocation failed. Exit code 1. */
export class OutOfMemoryError extends NativeError {
  override readonly name: string = "OutOfMemoryError";
  override readonly code: string = "E_MEMORY";
}

/** A rank failed or a collective timed out; the message names the rank. Exit code 1. */
export class DistributedError extends Error {
  override readonly name: string = "DistributedError";
  readonly code: string = "E_DISTRIBUTED";
}

/** Training left the numbers it can continue with (a loss that is not finite, a broken invariant); says at which step. Exit code 1. */
export class TrainingError extends Error {
  override readonly name: string = "TrainingError";
  readonly code: string = "E_TRAINING";
}

/** A model's generation does not agree with its training forward, so rollouts would not be its own; the message says where. Exit code 1. */
export class EngineMismatchError extends Error {
  override readonly name: string = "EngineMismatchError";
  readonly code: string = "E_MISMATCH";
}

/** The hub cannot be reached, fails, or sent wrong bytes, and the cache does not hold what was asked for. Exit code 1. */
export class HubError extends Error {
  override readonly name: string = "HubError";
  readonly code: string = "E_HUB";
}

/** A signal ended training after a finished and saved step. Exit code 130. */
export class Interrupted extends Error {
  override readonly name: string = "Interrupted";
  readonly code: string = "E_INTERRUPTED";

  /** @param step   the last finished step
   *  @param folder where the model was saved */
  constructor(step: number, folder: string) {
    super(`interrupted after step ${step}; the model is saved in ${folder}`);
  }
}
