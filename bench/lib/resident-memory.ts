import { readFileSync, writeFileSync } from "node:fs";

/** Memory of this process that is resident now (Linux). */
export function residentBytes(): number {
  return statusBytes("VmRSS");
}

/** The most that was resident since the start or the last `resetPeak`. */
export function peakResidentBytes(): number {
  return statusBytes("VmHWM");
}

/** Makes the peak start anew from what is resident now. */
export function resetPeak(): void {
  writeFileSync("/proc/self/clear_refs", "5"); // proc(5): "reset the peak resident set size"
}

function statusBytes(key: string): number {
  const kilobytes = new RegExp(`^${key}:\\s+(\\d+) kB$`, "m").exec(readFileSync("/proc/self/status", "utf8"))?.[1];
  if (kilobytes === undefined) throw new Error(`/proc/self/status has no ${key}`);
  return Number(kilobytes) * 1024;
}
