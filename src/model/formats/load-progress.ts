import { AsyncLocalStorage } from "node:async_hooks";
import type { CheckpointSource } from "../checkpoint-source.ts";

/** Told how much of a model is loaded. The last call, when loading ends, has `doneBytes` equal to `totalBytes`. */
export type LoadProgress = (path: string, doneBytes: number, totalBytes: number) => void;

const observers = new AsyncLocalStorage<LoadProgress>();

/** Runs `action`, in which every model that is loaded reports its progress: e.g. a whole training step, which loads several. */
export function observeLoading<Result>(onProgress: LoadProgress, action: () => Result): Result {
  return observers.run(onProgress, action);
}

/**
 * The checkpoint, reporting what is read of it to the observer, if there is one. Tensors count once: the optimizer reads them a second
 * time for its masters.
 *
 * @param sizeOf bytes of a tensor in its file
 */
export function observed(source: CheckpointSource, sizeOf: (name: string) => number): CheckpointSource {
  const onProgress = observers.getStore();
  if (!onProgress) return source;
  const pending = new Set(source.names());
  const totalBytes = source.names().reduce((sum, name) => sum + sizeOf(name), 0);
  let doneBytes = 0, isStarted = false;
  // A model is filled in one go, without waiting, so what runs next comes after its last tensor. Tensors that it does not take are done
  // with, too.
  const finish = () => {
    pending.clear();
    onProgress(source.path, totalBytes, totalBytes);
  };
  return {
    ...source,
    read(name) {
      if (!isStarted) queueMicrotask(finish);
      isStarted = true;
      if (pending.has(name)) onProgress(source.path, doneBytes, totalBytes);
      const tensor = source.read(name);
      if (pending.delete(name)) doneBytes += sizeOf(name);
      return tensor;
    },
  };
}
