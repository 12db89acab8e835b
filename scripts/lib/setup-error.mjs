/** Something that the user can mend stops the set-up: printed as one message, without a stack, and exit code 1. */
export class SetupError extends Error {
  /** @override */
  name = "SetupError";
}

/** A signal ended the set-up: nothing is printed, and the exit code is 128 plus the signal's number, as in a shell. */
export class Interrupted extends Error {
  /** @override */
  name = "Interrupted";

  /** @param {number} exitCode */
  constructor(exitCode) {
    super("interrupted");
    this.exitCode = exitCode;
  }
}
