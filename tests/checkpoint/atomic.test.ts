import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { cleanLeftovers, explainFailure, writeFileAtomic, writeFolder } from "../../src/checkpoint/atomic.ts";
import { rejection } from "../failure.ts";
import { temporaryFolder } from "../temporary-folder.ts";

describe("writeFolder", () => {
  test("puts the folder in place with its subfolders, making the parents", async () => {
    const target = join(temporaryFolder(), "a", "b", "model");
    await writeFolder(target, async (folder) => {
      mkdirSync(join(folder, "inner"));
      writeFileSync(join(folder, "inner", "x"), "1");
      writeFileSync(join(folder, "y"), "2");
      expect(existsSync(target)).toBe(false); // not before it is whole
    });
    expect(readFileSync(join(target, "inner", "x"), "utf8")).toBe("1");
    expect(readFileSync(join(target, "y"), "utf8")).toBe("2");
    expect(readdirSync(join(target, ".."))).toEqual(["model"]);
  });

  test("replaces a folder as a whole: files that are not written again are gone", async () => {
    const target = join(temporaryFolder(), "model");
    await writeFolder(target, async (folder) => writeFileSync(join(folder, "old"), "1"));
    await writeFolder(target, async (folder) => {
      expect(readdirSync(target)).toEqual(["old"]);
      writeFileSync(join(folder, "new"), "2");
    });
    expect(readdirSync(target)).toEqual(["new"]);
    expect(readdirSync(join(target, ".."))).toEqual(["model"]);
  });

  test("leaves the earlier folder and nothing else when writing fails, and lets the error through", async () => {
    const target = join(temporaryFolder(), "model");
    await writeFolder(target, async (folder) => writeFileSync(join(folder, "old"), "1"));
    const failed = rejection(() => writeFolder(target, async (folder) => {
      writeFileSync(join(folder, "half"), "2");
      throw new RangeError("mine");
    }));
    expect(await failed).toMatchObject({ name: "RangeError", message: "mine" });
    expect(readdirSync(join(target, ".."))).toEqual(["model"]);
    expect(readdirSync(target)).toEqual(["old"]);
  });

  test("is not confused by what a crashed process of the same id left", async () => {
    const parent = temporaryFolder();
    for (const kind of ["tmp", "old"]) {
      mkdirSync(join(parent, `.model.${kind}-${process.pid}`));
      writeFileSync(join(parent, `.model.${kind}-${process.pid}`, "stale"), "");
    }
    mkdirSync(join(parent, "model"));
    await writeFolder(join(parent, "model"), async (folder) => writeFileSync(join(folder, "x"), ""));
    expect(readdirSync(parent)).toEqual(["model"]);
    expect(readdirSync(join(parent, "model"))).toEqual(["x"]);
  });

  test("says what stands in the way", async () => {
    const parent = temporaryFolder();
    writeFileSync(join(parent, "file"), "");
    const { code, message } = await rejection(() => writeFolder(join(parent, "file", "model"), async () => {}));
    expect(code).toBe("E_CONFIG");
    expect(message).toMatch(/^could not write .*\/file\/model: (file already exists|not a directory); /);
    const full = Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC", errno: -28, syscall: "write" });
    expect((await rejection(() => writeFolder(join(parent, "model"), () => Promise.reject(full)))).message).toBe(
      `could not write ${parent}/model: no space left on device; free some space or choose another --output`,
    );
    expect(readdirSync(parent)).toEqual(["file"]);
  });

  // The superuser may write everywhere.
  test.skipIf(process.getuid?.() === 0)("a read-only place is named", async () => {
    const parent = temporaryFolder();
    chmodSync(parent, 0o500);
    expect((await rejection(() => writeFolder(join(parent, "model"), async () => {}))).message).toBe(
      `could not write ${parent}/model: permission denied; choose another --output or change its permissions`,
    );
  });
});

test.each([
  ["EROFS", 30, "read-only file system; choose another --output"],
  ["EACCES", 13, "permission denied; choose another --output or change its permissions"],
  ["EDQUOT", 122, "disk quota exceeded; free some space or choose another --output"],
])("%s is said in words", async (code, errno, words) => {
  const error = Object.assign(new Error(`${code}: as Node says it`), { code, errno: -errno });
  expect(await rejection(() => explainFailure("runs/x", () => Promise.reject(error)))).toEqual({
    name: "ConfigError", code: "E_CONFIG", message: `could not write runs/x: ${words}`,
  });
});

test("a system error that the user cannot remedy at the output stays as it is", async () => {
  const error = Object.assign(new Error("ENOENT: no such file"), { code: "ENOENT", errno: -2 });
  const unchanged = await rejection(() => explainFailure("x", () => Promise.reject(error)));
  expect(unchanged).toEqual({ name: "Error", code: "ENOENT", message: "ENOENT: no such file" });
});

test("writeFileAtomic replaces a file as a whole and leaves nothing beside it", async () => {
  const parent = temporaryFolder();
  const path = join(parent, "summary.json");
  await writeFileAtomic(path, "a long first text");
  await writeFileAtomic(path, "short");
  expect(readFileSync(path, "utf8")).toBe("short");
  mkdirSync(join(parent, "folder"));
  expect((await rejection(() => writeFileAtomic(join(parent, "folder"), "x"))).message).toMatch(/EISDIR/);
  expect(readdirSync(parent).sort()).toEqual(["folder", "summary.json"]);
});

test("cleanLeftovers removes unfinished writes and brings back what was moved away but not replaced", async () => {
  const parent = temporaryFolder();
  const put = (name: string): void => {
    mkdirSync(join(parent, name));
    writeFileSync(join(parent, name, "of"), name);
  };
  // Died while writing "a", between the two renames of "b", and before removing the old "c".
  [".a.tmp-1", ".b.tmp-2", ".b.old-2", "c", ".c.old-3", ".unrelated", "d.tmp-1"].forEach(put);
  await cleanLeftovers(parent);
  expect(readdirSync(parent).sort()).toEqual([".unrelated", "b", "c", "d.tmp-1"]);
  expect(readFileSync(join(parent, "b", "of"), "utf8")).toBe(".b.old-2");
  expect(readFileSync(join(parent, "c", "of"), "utf8")).toBe("c");
});
