import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
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
/**
 * The instruction sets that our own kernels can use on this processor, the best first: "avx512" (with bfloat16), "avx2", "plain". The
 * best is in use unless the environment variable TSCHAT_KERNELS names another.
 */
export function kernelSets(): readonly string[] {
  return binding.kernelSets();
}
/** The one in use. */
export function kernelSet(): string {
  return binding.kernelSet();
}
/**
 * Uses another from now on.
 *
 * @throws {TypeError} for one that this processor lacks
 */
export function useKernels(name: string): void {
  binding.useKernels(name);
}
/** Gives memory that is free inside the C heap back to the system: what large results leave there stays resident otherwise. */
export function trimHeap(): void {
  binding.trimHeap();
}

/**
 * Frees every tensor that nothing refers to, now. V8 collects when its own heap asks for it; after a training step has
 * ended that may be long in coming, and meanwhile its models stay (measured: 4.8 GB of SFT and reward model all through PPO).
 */
export function collectGarbage(): void {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  // The first may only finish a marking under way, which spares what was made since it began; the second lets the nodes of graphs go,
  // and the third what their callbacks held.
  for (let i = 0; i < 3; i++) collect();
}
