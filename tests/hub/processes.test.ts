import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import type { Environment } from "../../src/hub/environment.ts";
import { resolveModel } from "../../src/hub/resolve.ts";
import { type Fault, sha256 } from "./local-hub.ts";
import { setUpHub, someBytes } from "./setup.ts";

const weights = someBytes(200_000);
const model = { name: "org/tiny", files: { "config.json": "{}", "model.safetensors": weights }, large: ["model.safetensors"] };

function startProcess(env: Environment): { child: ChildProcess; end: Promise<{ code: number | null; out: string; notes: string }> } {
  const script = fileURLToPath(new URL("resolve-process.ts", import.meta.url));
  const child = spawn(process.execPath, [script, "org/tiny"], { env: { PATH: process.env["PATH"], ...env } });
  onTestFinished(() => { child.kill("SIGKILL"); });
  let out = "", notes = "";
  child.stdout.on("data", (text: Buffer) => { out += String(text); });
  child.stderr.on("data", (text: Buffer) => { notes += String(text); });
  const end = new Promise<{ code: number | null; out: string; notes: string }>((resolve) => {
    child.once("close", (code) => resolve({ code, out, notes }));
  });
  return { child, end };
}

/** Holds back the weights until `release`, after half of them where `sendHalf`. */
function gate(sendHalf: boolean): { fault: Fault; reached: Promise<void>; release: () => void } {
  let release = (): void => {}, reach = (): void => {};
  const released = new Promise<void>((resolve) => { release = resolve; });
  const reached = new Promise<void>((resolve) => { reach = resolve; });
  const fault: Fault = ({ host }, response, content) => {
    if (host !== "storage") return false;
    response.writeHead(200, { "content-length": content.length });
    const half = sendHalf ? content.length / 2 : 0;
    response.write(content.subarray(0, half), () => reach());
    response.flushHeaders();
    reach();
    void released.then(() => response.end(content.subarray(half)));
    return true;
  };
  return { fault, reached, release };
}

test("of two processes one downloads, and the other waits and finds the files", async () => {
  const { hub, env, cache } = await setUpHub(model);
  const { fault, reached, release } = gate(false);
  hub.faults.push(fault);
  const first = startProcess(env);
  await reached;
  const second = startProcess(env);
  await new Promise<void>((resolve) => { second.child.stderr?.once("data", () => resolve()); }); // it says that it waits
  release();
  const [one, two] = await Promise.all([first.end, second.end]);
  expect(one).toMatchObject({ code: 0, notes: "" });
  expect(two).toEqual({ code: 0, out: one.out, notes: `org/tiny: is being downloaded by process ${first.child.pid}; waiting\n` });
  expect(readFileSync(join(one.out, "model.safetensors")).equals(weights)).toBe(true);
  expect(hub.requests.filter(({ host }) => host === "storage")).toHaveLength(1);
  expect(existsSync(join(cache, ".locks", "models--org--tiny", "tschat.lock"))).toBe(false);
});

test("a killed process leaves its part and a lock that the next one takes over", async () => {
  const { hub, env, cache, options } = await setUpHub(model);
  const { fault, reached } = gate(true);
  hub.faults.push(fault);
  const first = startProcess(env);
  await reached;
  const part = join(cache, "models--org--tiny", "blobs");
  while (!hasBytes(part)) await new Promise((resolve) => { setImmediate(resolve); });
  first.child.kill("SIGKILL");
  await first.end;
  hub.faults.length = 0;
  expect(existsSync(join(cache, ".locks", "models--org--tiny", "tschat.lock"))).toBe(true);
  const folder = await resolveModel("org/tiny", options());
  expect(readFileSync(join(folder, "model.safetensors")).equals(weights)).toBe(true);
  expect(hub.requests.at(-1)?.range).toMatch(/^bytes=[1-9]\d*-$/);
});

test("a lock of another host is waited for, and named", async () => {
  const { cache, notes, options } = await setUpHub(model);
  const lock = join(cache, ".locks", "models--org--tiny");
  mkdirSync(lock, { recursive: true });
  writeFileSync(join(lock, "tschat.lock"), JSON.stringify({ pid: 1, host: `not-${hostname()}` }));
  const controller = new AbortController();
  const onNote = (line: string): void => {
    notes.push(line);
    controller.abort(new Error("enough"));
  };
  await expect(resolveModel("org/tiny", options({ onNote, signal: controller.signal }))).rejects.toThrow();
  expect(notes).toEqual([
    `org/tiny: is being downloaded by process 1 on not-${hostname()}; if that process has ended, remove ${lock}/tschat.lock; waiting`,
  ]);
});

function hasBytes(blobs: string): boolean {
  const path = join(blobs, `${sha256(weights)}.incomplete`);
  return existsSync(path) && readFileSync(path).length > 0;
}
