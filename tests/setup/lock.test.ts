import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, utimesSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { withLock } from "../../scripts/lib/lock.mjs";
import { temporaryFolder } from "../temporary-folder.ts";

const lockText = (pid: number, host = hostname()) => JSON.stringify({ pid, host, id: "another" });

describe("withLock", () => {
  test("lets one in at a time and leaves nothing behind", async () => {
    const folder = temporaryFolder();
    let inside = 0;
    let most = 0;
    const action = async () => {
      most = Math.max(most, ++inside);
      for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
      inside--;
      return most;
    };
    const holders = Array.from({ length: 4 }, () => withLock(join(folder, "lock"), action, { pollMs: 1 }));
    expect(await Promise.all(holders)).toEqual([1, 1, 1, 1]);
    expect(readdirSync(folder)).toEqual([]);
  });

  test("is released when the action fails", async () => {
    const path = join(temporaryFolder(), "lock");
    await expect(withLock(path, () => Promise.reject(new Error("no")))).rejects.toThrow("no");
    expect(existsSync(path)).toBe(false);
  });

  test("takes over the lock of a process that is dead", async () => {
    const path = join(temporaryFolder(), "lock");
    const { pid } = spawnSync(process.execPath, ["--version"]);
    writeFileSync(path, lockText(pid));
    expect(await withLock(path, () => Promise.resolve("in"))).toBe("in");
  });

  test("waits for a process that lives, until its lock is gone", async () => {
    const folder = temporaryFolder();
    const path = join(folder, "lock");
    let release = () => {};
    const held = withLock(path, () => new Promise<void>((resolve) => (release = resolve)));
    await expect.poll(() => existsSync(path)).toBe(true);
    const order: string[] = [];
    const waiting = withLock(path, () => Promise.resolve(order.push("second")), { pollMs: 1 });
    order.push("first");
    release();
    await Promise.all([held, waiting]);
    expect(order).toEqual(["first", "second"]);
  });

  test("takes over a lock of another machine only once it is old", async () => {
    const path = join(temporaryFolder(), "lock");
    writeFileSync(path, lockText(1, "elsewhere"));
    const old = new Date(Date.now() - 61_000);
    utimesSync(path, old, old);
    expect(await withLock(path, () => Promise.resolve("in"))).toBe("in");

    writeFileSync(path, lockText(1, "elsewhere"));
    const waiting = withLock(path, () => Promise.resolve("in"), { staleMs: 300, pollMs: 10 });
    const started = Date.now();
    expect(await waiting).toBe("in");
    expect(Date.now() - started).toBeGreaterThan(200);
  });

  test("takes over a damaged lock", async () => {
    const path = join(temporaryFolder(), "lock");
    writeFileSync(path, "{");
    expect(await withLock(path, () => Promise.resolve("in"))).toBe("in");
  });
});
