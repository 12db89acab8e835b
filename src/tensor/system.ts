import { binding } from "../native/binding.ts";

/** Threads that operators called from this thread may use; libtorch keeps the number per thread. */
export function setNumThreads(threads: number): void {
  binding.setNumThreads(threads);
}
/** Threads in use on this thread. */
export function numThreads(): number {
  return binding.numThreads();
}
/** Tensor handles that are alive and the bytes reported for them, in all threads of the process. */
export function tensorMemory(): { liveTensors: number; liveBytes: number } {
  return binding.tensorMemory();
}
/** Whether bfloat16 products run in hardware on this processor. */
export function hasFastBfloat16(): boolean {
  return binding.hasFastBfloat16();
}
