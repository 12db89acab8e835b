import type { FinishReason } from "./request.ts";

/** One event of a stream: a token, and on the last one why the answer ended. */
export interface StreamedToken {
  token: number;
  logprob: number;
  finishReason: FinishReason | undefined;
}

/** What one stream has been given and has not read yet; a single reader. */
export class TokenQueue {
  readonly #events: StreamedToken[] = [];
  #failure: { error: unknown } | undefined;
  #wake: { resolve: (event: StreamedToken) => void; reject: (error: unknown) => void } | undefined;

  /** Whether the reader waits for an event. */
  get isWaiting(): boolean { return this.#wake !== undefined; }

  push(event: StreamedToken): void {
    if (this.#wake) this.#wake.resolve(event);
    else this.#events.push(event);
    this.#wake = undefined;
  }

  /** What was pushed before can still be read, then reading throws `error`. */
  fail(error: unknown): void {
    this.#failure ??= { error };
    this.#wake?.reject(error);
    this.#wake = undefined;
  }

  /** The next event; it may have to be waited for. */
  next(): Promise<StreamedToken> {
    const event = this.#events.shift();
    if (event) return Promise.resolve(event);
    if (this.#failure) return Promise.reject(this.#failure.error);
    return new Promise((resolve, reject) => {
      this.#wake = { resolve, reject };
    });
  }
}
