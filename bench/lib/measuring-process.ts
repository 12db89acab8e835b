import { fileURLToPath } from "node:url";
import { describeFailure } from "../../src/cli/exit-codes.ts";
import { full } from "../../src/tensor/create.ts";
import { setNumThreads } from "../../src/tensor/system.ts";
import { tidy } from "../../src/tensor/tidy.ts";
import { runForJson } from "./json-process.ts";
import { residentBytes } from "./resident-memory.ts";

/** What every workload says of the process that it is measured in. */
export interface ProcessSettings {
  dtype: "float32" | "bfloat16";
  threads: number;
}

/**
 * Measures a workload in a process of its own, so that nothing that ran before counts as memory of this run.
 *
 * @param script file in this folder that calls `measuringProcess`
 * @throws {ConfigError} what the process says about the model
 */
export async function measureInProcess<Workload, Result>(script: string, workload: Workload): Promise<Result> {
  const file = fileURLToPath(new URL(script, import.meta.url));
  return (await runForJson(process.execPath, [file, JSON.stringify(workload)])) as Result;
}

/**
 * The life of such a process: the workload comes as the first argument, what `measure` makes of it leaves through standard output, both
 * as JSON. `baseBytes` is what is resident before anything of the workload is loaded.
 */
export async function measuringProcess<Workload extends ProcessSettings, Result>(
  measure: (workload: Workload, baseBytes: number) => Promise<Result>,
): Promise<void> {
  try {
    const workload = JSON.parse(process.argv[2] ?? "") as Workload;
    const { threads, dtype } = workload;
    setNumThreads(threads);
    // The libraries of products load their code when they are first called.
    tidy(() => void full([64, 64], 1, dtype).matmul(full([64, 64], 1, dtype)));
    process.stdout.write(`${JSON.stringify(await measure(workload, residentBytes()))}\n`);
  } catch (error) {
    const { message, exitCode } = describeFailure(error);
    process.stderr.write(`${message}\n`);
    process.exitCode = exitCode;
  }
}
