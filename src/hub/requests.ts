import { setTimeout as sleep } from "node:timers/promises";
import { ConfigError, HubError } from "../errors.ts";
import type { HubEnvironment } from "./environment.ts";
import type { RepoKind } from "./hub-id.ts";

/** How requests are made. */
export interface RequestOptions {
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds before the second attempt; doubled for each one after it. */
  readonly retryDelay: number;
  /** Requests without any success in between after which one gives up. */
  readonly attempts: number;
  /** Told in words why something is tried again or done in another way. */
  readonly onNote: (line: string) => void;
}

/** What a request is for, for messages. */
export interface RequestSubject {
  readonly kind: RepoKind;
  readonly repo: string;
  readonly revision: string;
}

/** Seconds; a server that asks for a longer pause is not waited for. */
const longestPause = 300;

/** The hub cannot be reached or does not work: the cache may still serve. */
export class UnreachableError extends HubError {}

/** A connection that broke, or a server that is busy: the same request may succeed later. */
export class TransientError extends Error {
  /** Seconds to wait, where the server says so. */
  readonly pause: number | undefined;

  constructor(message: string, { pause, cause }: { pause?: number | undefined; cause?: unknown } = {}) {
    super(message, { cause });
    this.pause = pause;
  }
}

/** Requests to one hub: with the token for it and for no other host, tried again when something breaks, with errors in words. */
export class HubRequests {
  readonly environment: HubEnvironment;
  readonly #options: RequestOptions;

  constructor(environment: HubEnvironment, options: RequestOptions) {
    this.environment = environment;
    this.#options = options;
  }

  /** What ends all requests. */
  get signal(): AbortSignal | undefined { return this.#options.signal; }

  /** `fetch` with several attempts; the response is a good one. @throws as `once` and `retrying` */
  fetch(url: string, subject: RequestSubject, headers?: Record<string, string>): Promise<Response> {
    return this.retrying(() => this.once(url, subject, { headers: headers ?? {} }));
  }

  /**
   * One request. A response of 416 is returned too: what a range means is known to the caller.
   *
   * @throws {TransientError} for what may succeed later
   * @throws {ConfigError} for a repository, revision or file that is not there or not accessible
   */
  async once(url: string, subject: RequestSubject, init: { headers: Record<string, string>; signal?: AbortSignal }): Promise<Response> {
    const { endpoint, token, timeout } = this.environment;
    const headers = { ...init.headers, "user-agent": "tschat" };
    // fetch itself drops the header when it follows a redirect to another host.
    const isHub = new URL(url).origin === new URL(endpoint).origin;
    if (token !== undefined && isHub) Object.assign(headers, { authorization: `Bearer ${token}` });
    const stop = init.signal ?? AbortSignal.any([AbortSignal.timeout(timeout), ...(this.#options.signal ? [this.#options.signal] : [])]);
    let response: Response;
    try {
      response = await fetch(url, { headers, signal: stop });
    } catch (error) {
      this.#options.signal?.throwIfAborted();
      throw connectionError(error, url);
    }
    if (response.ok || response.status === 416) return response;
    await response.body?.cancel();
    if (response.status === 429 || response.status === 408 || response.status >= 500) {
      throw new TransientError(`the server answered ${response.status} ${response.statusText}`, { pause: pauseOf(response) });
    }
    throw refusal(response, subject, this.environment);
  }

  /**
   * Runs `attempt` again after errors that may pass, with pauses that grow. `attempt` may say that it got somewhere, and then has
   * all its attempts again.
   *
   * @throws {UnreachableError} after `attempts` without success, and at once for what waiting does not help
   */
  async retrying<T>(attempt: (gotSomewhere: () => void) => Promise<T>): Promise<T> {
    const { signal, retryDelay, attempts, onNote } = this.#options;
    for (let failures = 0; ; ) {
      try {
        return await attempt(() => { failures = 0; });
      } catch (error) {
        if (!(error instanceof TransientError)) throw error;
        failures++;
        const pause = error.pause ?? (retryDelay / 1000) * 2 ** (failures - 1);
        if (failures >= attempts || pause > longestPause) {
          const wait = pause > longestPause ? `; it asks to wait ${Math.ceil(pause / 60)} minutes` : "";
          const message = `could not reach ${this.environment.endpoint}: ${error.message}${wait}; try again later`;
          throw new UnreachableError(message, { cause: error });
        }
        if (failures > 1 || pause > 5) onNote(`${error.message}; trying again in ${pause < 10 ? pause.toFixed(1) : Math.ceil(pause)} s`);
        await sleep(pause * 1000, undefined, { signal }).catch((aborted: unknown) => {
          throw signal?.reason ?? aborted;
        });
      }
    }
  }
}

/** What failed below HTTP: worth another attempt, or not. */
export function connectionError(error: unknown, url: string): Error {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const code = String((cause as NodeJS.ErrnoException).code ?? "");
  const host = new URL(url).host;
  const words = cause instanceof Error ? cause.message : String(cause);
  if (/CERT|SELF_SIGNED|UNABLE_TO_VERIFY/.test(code)) {
    const advice = "if a proxy of yours signs connections, name its certificate in NODE_EXTRA_CA_CERTS";
    return new UnreachableError(`could not trust ${host}: ${words}; ${advice}`, { cause: error });
  }
  // A proxy is the usual reason for a name that is not known, and Node uses one only when it is told to.
  const proxy = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"].find((name) => process.env[name]);
  const isIgnored = proxy !== undefined && process.env["NODE_USE_ENV_PROXY"] !== "1";
  const hint = isIgnored ? `; ${proxy} is set, and Node uses it only with NODE_USE_ENV_PROXY=1` : "";
  if (code === "ENOTFOUND") return new UnreachableError(`could not reach ${host}: its name is not known here${hint}`, { cause: error });
  const isTimeout = cause instanceof Error && cause.name === "TimeoutError";
  const problem = isTimeout ? "was silent for too long" : `broke (${words})`;
  return new TransientError(`the connection to ${host} ${problem}${hint}`, { cause: error });
}

/** Seconds of `Retry-After`, which is a number or a date. */
function pauseOf(response: Response): number | undefined {
  const header = response.headers.get("retry-after");
  if (header === null) return undefined;
  const seconds = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, seconds) : undefined;
}

/** What the hub refuses for good. It answers 401 for a repository that does not exist, too, so as not to tell which private ones do. */
function refusal(response: Response, { kind, repo, revision }: RequestSubject, { endpoint, token }: HubEnvironment): Error {
  const { status, headers } = response;
  const code = headers.get("x-error-code"), message = headers.get("x-error-message") ?? "";
  const page = `${endpoint}/${kind === "dataset" ? "datasets/" : ""}${repo}`;
  const what = kind === "dataset" ? "data set" : "model";
  if (code === "GatedRepo" || (status === 403 && code === null)) {
    const advice = token === undefined
      ? `accept its conditions at ${page}, and set HF_TOKEN to a token of that account`
      : `the account of this HF_TOKEN has no access; accept the conditions at ${page}, or wait until its authors have agreed`;
    return new ConfigError(`${repo}: the ${what} is behind conditions: ${advice}`);
  }
  if (status === 401 && token !== undefined && /credentials|token/i.test(message)) {
    const advice = `make a new one at ${endpoint}/settings/tokens`;
    return new ConfigError(`${repo}: the hub does not know the token of HF_TOKEN (or of hf auth login); ${advice}`);
  }
  if (code === "RevisionNotFound") {
    return new ConfigError(`${repo}: the ${what} has no revision "${revision}"; ${page} lists its branches and tags`);
  }
  if (code === "EntryNotFound") return new ConfigError(`${repo}@${revision}: no such file: ${response.url}`);
  if (status === 401 || status === 404) {
    const other = kind === "dataset" ? "a model" : "a data set";
    const isPrivate = token === undefined ? "if it is private, set HF_TOKEN" : "if it is private, HF_TOKEN must be allowed to read it";
    return new ConfigError(
      `${repo}: no such file or folder here, and no such ${what} at ${endpoint} (${isPrivate}; if it is ${other}, it does not belong here)`,
    );
  }
  return new HubError(`${repo}: the hub refused ${response.url}: ${status} ${message || response.statusText}`);
}
