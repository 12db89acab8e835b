import { spawn, type ChildProcess } from "node:child_process";
import { availableParallelism } from "node:os";
import { DistributedError } from "../errors.ts";

/** How to start ranks. */
export interface LaunchOptions {
  /** Number of processes, all on this host. */
  readonly worldSize: number;
  /** Processor threads of each rank; the cores divided by the ranks when left out and OMP_NUM_THREADS is not set. */
  readonly threads?: number | undefined;
  /** What a rank runs: this process's own command line when left out. */
  readonly command?: readonly [string, ...string[]];
}

/** Exit code after Ctrl-C or SIGTERM. */
const interrupted = 130;

/** True in a process that was started as a rank, by `launch`, torchrun or a scheduler: torch's RANK is set. */
export function isRank(): boolean {
  return process.env["RANK"] !== undefined;
}

/**
 * Runs `body` on every rank: in a rank it calls it; otherwise it starts the ranks with this process's own command line, so that
 * each arrives here again, and waits. The result is the exit code.
 *
 * @throws {DistributedError} as `launch`
 */
export async function onEveryRank(options: LaunchOptions, body: () => Promise<number>): Promise<number> {
  return isRank() ? body() : launch(options);
}

/**
 * Starts one process per rank with torch's environment (RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE) and waits for them.
 * Standard input and output are this process's.
 *
 * Each rank leads a process group of its own, so Ctrl-C at a terminal reaches this process only. The first SIGINT or SIGTERM
 * is passed on once: the ranks finish their step and save. The second kills their groups at once.
 * The first rank that fails ends the others.
 *
 * @returns 0, the exit code of the rank that failed, or 130 after a signal
 * @throws {DistributedError} when a signal ended a rank that was not asked to stop, or a rank cannot be started
 */
export async function launch(options: LaunchOptions): Promise<number> {
  const command = options.command ?? [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  const ranks = Array.from({ length: options.worldSize }, (_, rank) =>
    spawn(command[0], command.slice(1), { detached: true, stdio: "inherit", env: rankEnvironment(rank, options) }));

  let signals = 0;
  const killAll = (): void => ranks.forEach(killGroup);
  const forward = (signal: NodeJS.Signals): void => {
    signals++;
    if (signals > 1) killAll();
    else for (const rank of ranks) rank.kill(signal);
  };
  process.on("SIGINT", forward).on("SIGTERM", forward).on("exit", killAll);
  try {
    const ends = ranks.map(endOf);
    const failure = ends.map((end) => end.then((result) => (result.code === 0 ? new Promise<never>(() => {}) : result)));
    const first = await Promise.race([...failure, Promise.all(ends).then(() => undefined)]);
    if (first !== undefined && signals === 0) killAll();
    await Promise.all(ends);
    if (first === undefined) return 0;
    if (first.code !== null && signals < 2) return first.code;
    if (signals > 0) return interrupted;
    throw new DistributedError(describeEnd(ranks.findIndex((rank) => rank.pid === first.pid), first));
  } finally {
    process.off("SIGINT", forward).off("SIGTERM", forward).off("exit", killAll);
  }
}

/** How a rank ended: with an exit code, by a signal, or not even started. */
interface End {
  readonly pid: number | undefined;
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly error?: Error;
}

function endOf(rank: ChildProcess): Promise<End> {
  return new Promise((resolve) => {
    rank.once("error", (error) => resolve({ pid: rank.pid, code: null, signal: null, error }));
    rank.once("exit", (code, signal) => resolve({ pid: rank.pid, code, signal }));
  });
}

function describeEnd(rank: number, { signal, error }: End): string {
  if (error !== undefined) return `rank ${rank} could not be started: ${error.message}`;
  const memory = "; if nobody did that by hand, the machine ran out of memory: lower --micro-batch-tokens or use a smaller model";
  return `rank ${rank} was ended by ${signal}${signal === "SIGKILL" ? memory : ""}`;
}

function rankEnvironment(rank: number, { worldSize, threads }: LaunchOptions): NodeJS.ProcessEnv {
  // More OpenMP threads than free cores make an operator wait for a thread that is not running.
  const share = Math.max(1, Math.floor(availableParallelism() / worldSize));
  return {
    ...process.env,
    RANK: String(rank),
    LOCAL_RANK: String(rank),
    WORLD_SIZE: String(worldSize),
    LOCAL_WORLD_SIZE: String(worldSize),
    OMP_NUM_THREADS: threads === undefined ? (process.env["OMP_NUM_THREADS"] ?? String(share)) : String(threads),
  };
}

function killGroup(rank: ChildProcess): void {
  if (rank.pid === undefined || rank.exitCode !== null || rank.signalCode !== null) return;
  try {
    process.kill(-rank.pid, "SIGKILL");
  } catch (error) {
    // It ended by itself just now.
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
  }
}
