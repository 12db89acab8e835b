/**
 * A program whose ranks do what the first argument says: `node ranks.ts <behaviour> <worldSize>`. It prints its exit code as the
 * command line would have it.
 */
import { onEveryRank } from "../../src/distributed/launch.ts";

const [behaviour = "", worldSize = "1", threads] = process.argv.slice(2);

const behaviours: Record<string, () => Promise<number>> = {
  environment: async () => {
    const { RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, OMP_NUM_THREADS } = process.env;
    process.stdout.write(`${JSON.stringify({ RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, OMP_NUM_THREADS })}\n`);
    return 0;
  },
  fail: async () => 7,
  // Rank 1 fails, rank 0 would wait for ever.
  failOne: () => (process.env["RANK"] === "1" ? Promise.resolve(5) : forever()),
  crash: () => {
    process.kill(process.pid, "SIGKILL");
    return forever();
  },
  // Like a rank that computes: finishes its step, saves, exits with 130. Counts what arrives.
  save: () => {
    let signals = 0;
    const heard = new Promise<number>((resolve) => {
      for (const signal of ["SIGINT", "SIGTERM"] as const) {
        process.on(signal, () => {
          signals++;
          setImmediate(() => {
            process.stdout.write(`saved after ${signals} ${signal}\n`);
            resolve(130);
          });
        });
      }
    });
    process.stdout.write(`ready ${process.pid}\n`);
    return Promise.race([heard, forever()]);
  },
  // Deaf to the first signal.
  hang: () => {
    process.on("SIGINT", () => process.stdout.write("heard\n"));
    process.stdout.write(`ready ${process.pid}\n`);
    return forever();
  },
  // Not yet listening: the signal's own effect ends it.
  early: () => {
    process.stdout.write(`ready ${process.pid}\n`);
    return forever();
  },
};

/** Keeps the process alive and never ends. */
function forever(): Promise<never> {
  setInterval(() => {}, 1000);
  return new Promise(() => {});
}

try {
  const options = { worldSize: Number(worldSize), threads: threads === undefined ? undefined : Number(threads) };
  const code = await onEveryRank(options, behaviours[behaviour] ?? (async () => 99));
  process.exit(code);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? `${error.name}: ${error.message}` : String(error)}\n`);
  process.exit(1);
}
