import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { ensureLibtorch, needsDownload } from "../../scripts/lib/libtorch.mjs";
import { temporaryFolder } from "../temporary-folder.ts";

/** A folder that looks like libtorch: empty libraries and the header that holds the version. */
function fakeLibtorch(version: string): string {
  const folder = temporaryFolder();
  const header = join(folder, "include/torch/headeronly");
  mkdirSync(header, { recursive: true });
  const [major, minor, patch] = version.split(".");
  const parts = `#define TORCH_VERSION_MAJOR ${major}\n#define TORCH_VERSION_MINOR ${minor}\n#define TORCH_VERSION_PATCH ${patch}\n`;
  writeFileSync(join(header, "version.h"), `${parts}#define TORCH_VERSION \\\n  "${version}"\n`);
  mkdirSync(join(folder, "lib"));
  for (const name of ["libc10.so", "libtorch_cpu.so", "libgomp.so.1"]) writeFileSync(join(folder, "lib", name), "");
  return folder;
}

describe.skipIf(process.platform !== "linux")("ensureLibtorch with TSCHAT_LIBTORCH", () => {
  test("takes a libtorch of this minor version, whatever its patch number", async () => {
    for (const version of ["2.15.0", "2.15.3"]) {
      const folder = fakeLibtorch(version);
      expect(await ensureLibtorch({ TSCHAT_LIBTORCH: folder })).toEqual({ folder, version });
    }
  });

  test("refuses another version", async () => {
    const folder = fakeLibtorch("2.14.1");
    await expect(ensureLibtorch({ TSCHAT_LIBTORCH: folder })).rejects.toMatchObject({
      name: "SetupError",
      message: `cannot use libtorch in ${folder}: its version is 2.14.1, 2.15 is needed; ` +
        'set TSCHAT_LIBTORCH to the "torch" folder of a torch 2.15 installation, or unset it to download one',
    });
  });

  test("refuses a folder that is something else", async () => {
    const folder = temporaryFolder();
    const message = expect.stringMatching(/^cannot use libtorch in .*: it has no include\/torch\/.*version\.h; set TSCHAT_LIBTORCH/);
    await expect(ensureLibtorch({ TSCHAT_LIBTORCH: folder })).rejects.toMatchObject({ name: "SetupError", message });
    await expect(ensureLibtorch({ TSCHAT_LIBTORCH: join(folder, "missing") })).rejects.toMatchObject({ name: "SetupError", message });
  });

  test("downloads only without it and without a finished cache folder", () => {
    const cache = temporaryFolder();
    expect(needsDownload({ TSCHAT_LIBTORCH: cache, TSCHAT_CACHE: cache })).toBe(false);
    expect(needsDownload({ TSCHAT_CACHE: cache })).toBe(true);
    mkdirSync(join(cache, `libtorch-2.15.0-${process.platform}-${process.arch}.partial`));
    expect(needsDownload({ TSCHAT_CACHE: cache })).toBe(true);
    mkdirSync(join(cache, `libtorch-2.15.0-${process.platform}-${process.arch}`));
    expect(needsDownload({ TSCHAT_CACHE: cache })).toBe(false);
  });
});
