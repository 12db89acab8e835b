import { PerformanceObserver } from "node:perf_hooks";

/** Seconds of a run, and those of them in which V8's collections held JavaScript up. */
export interface CollectionTime {
  total: number;
  collecting: number;
}

/** Runs `body` and adds up its garbage collections; what they do on other threads meanwhile does not count. */
export async function secondsInCollections(body: () => Promise<void>): Promise<CollectionTime> {
  let milliseconds = 0;
  const observer = new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) milliseconds += duration;
  });
  observer.observe({ entryTypes: ["gc"] });
  const start = performance.now();
  await body();
  const total = (performance.now() - start) / 1000;
  // Node hands the entries out from its event loop, in a turn after the one in which they came.
  for (let i = 0; i < 2; i++) await new Promise(setImmediate);
  observer.disconnect();
  return { total, collecting: milliseconds / 1000 };
}
