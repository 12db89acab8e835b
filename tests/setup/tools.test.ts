import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { findTools } from "../../scripts/lib/tools.mjs";
import { temporaryFolder } from "../temporary-folder.ts";

/** A PATH that holds nothing but shell scripts of these names and bodies. */
function pathOf(scripts: Record<string, string>): { PATH: string } {
  const folder = temporaryFolder();
  for (const [name, body] of Object.entries(scripts)) {
    writeFileSync(join(folder, name), `#!/bin/sh\n${body}\n`);
    chmodSync(join(folder, name), 0o755);
  }
  return { PATH: folder };
}

describe("findTools", () => {
  test("names everything that is missing and the command that installs it", () => {
    expect(() => findTools(["cmake", "compiler", "pip"], pathOf({}))).toThrow(
      expect.objectContaining({
        name: "SetupError",
        message:
          "cannot set up: not found on PATH: CMake, a C++20 compiler (g++ 11 or newer), " +
          "pip of Python 3 (only to download the libtorch wheel); install with: sudo apt-get install -y cmake g++ python3-pip",
      }),
    );
  });

  test("suggests the package manager of the machine", () => {
    expect(() => findTools(["compiler"], pathOf({ dnf: "" }))).toThrow(/install with: sudo dnf install -y gcc-c\+\+$/);
    expect(() => findTools(["cmake"], pathOf({ brew: "" }))).toThrow(/install with: brew install cmake$/);
  });

  test("prefers Ninja, falls back to make", () => {
    const both = pathOf({ ninja: "", make: "" });
    expect(findTools(["make"], both).make).toEqual([join(both.PATH, "ninja")]);
    const make = pathOf({ make: "" });
    expect(findTools(["make"], make).make).toEqual([join(make.PATH, "make")]);
  });

  test("refuses a GCC that is too old and takes a newer one", () => {
    const gcc = (version: string) => `[ "$1" = -dumpversion ] && echo ${version} || echo "g++ Free Software Foundation"`;
    expect(() => findTools(["compiler"], pathOf({ "g++": gcc("9") }))).toThrow(/g\+\+ 11 or newer/);
    expect(findTools(["compiler"], pathOf({ "g++": gcc("11") })).compiler).toHaveLength(1);
  });

  test("takes a python3 only when it has pip", () => {
    const without = pathOf({ python3: "exit 1" });
    expect(() => findTools(["pip"], without)).toThrow(/pip of Python 3/);
    const withPip = pathOf({ python3: "exit 0" });
    expect(findTools(["pip"], withPip).pip).toEqual([join(withPip.PATH, "python3"), "-m", "pip"]);
    const alone = pathOf({ python3: "exit 1", pip3: "exit 0" });
    expect(findTools(["pip"], alone).pip).toEqual([join(alone.PATH, "pip3")]);
  });
});
