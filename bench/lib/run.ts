import { basename, resolve } from "node:path";
import { resolveDtype } from "../../src/model/dtype.ts";
import { setNumThreads } from "../../src/tensor/system.ts";
import { Report } from "./report.ts";
import { type ModelShape, readShape } from "./roofline.ts";

/** The flags that every benchmark of a model has. */
export interface RunConfig {
  readonly model: string;
  readonly dtype: "auto" | "float32" | "bfloat16";
  readonly threads: number;
  readonly repeats: number;
  readonly json: boolean;
}

/** A benchmark of a model, ready to measure. */
export interface Run {
  shape: ModelShape;
  dtype: "float32" | "bfloat16";
  report: Report;
}

/**
 * Sets the threads of this process and reads what kind of model it is.
 *
 * @throws {CheckpointError} for a missing, damaged or unknown checkpoint
 */
export async function openRun(bench: string, { model, dtype: asked, threads, json }: RunConfig): Promise<Run> {
  setNumThreads(threads);
  const dtype = resolveDtype({ dtype: asked });
  const shape = await readShape(model, dtype);
  return { shape, dtype, report: new Report({ bench, model: basename(resolve(model)), dtype, threads }, json) };
}
