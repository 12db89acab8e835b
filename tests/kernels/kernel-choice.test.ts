import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterEach, expect, test } from "vitest";
import { kernelSet, kernelSets, useKernels } from "../../src/tensor/system.ts";
import { failure } from "../failure.ts";

const source = (path: string) => JSON.stringify(fileURLToPath(new URL(`../../src/${path}`, import.meta.url)));

/** Prints the set in use and a product that one of its kernels made. */
const script = `
  import { kernelSet } from ${source("tensor/system.ts")};
  import { operator } from ${source("tensor/operator.ts")};
  import { Tensor } from ${source("tensor/tensor.ts")};
  import { full } from ${source("tensor/create.ts")};
  const y = () => new Tensor(operator("tschat::layer_product")(full([1, 33], 2).handle, full([1, 33], 3).handle)).numbers();
  console.log(kernelSet());
  console.log(String(y()));
`;

/** What the script prints in a process of its own with that environment. */
function run(kernels: string | undefined): string[] {
  const env = { ...process.env, OMP_NUM_THREADS: "1", TSCHAT_KERNELS: kernels };
  const { status, stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "--eval", script], { encoding: "utf8", env });
  expect([status, stderr]).toEqual([0, ""]);
  return stdout.trimEnd().split("\n");
}

const best = kernelSets()[0] ?? "";
afterEach(() => useKernels(best));

test("the sets of a processor are in order and end with the one that every processor has", () => {
  expect(["avx512,avx2,plain", "avx2,plain", "plain"]).toContain(kernelSets().join());
  expect(kernelSet()).toBe(best);
});

test("the best set is in use unless TSCHAT_KERNELS names another", () => {
  // 33 times 2 * 3
  for (const set of kernelSets()) expect(run(set)).toEqual([set, "198"]);
  expect(run(undefined)).toEqual([best, "198"]);
  expect(run("")).toEqual([best, "198"]);
});

test("a name that this processor lacks is an error at the start that says which it has", () => {
  const env = { ...process.env, TSCHAT_KERNELS: "sse9" };
  const { status, stderr } = spawnSync(process.execPath, ["--input-type=module", "--eval", script], { encoding: "utf8", env });
  expect(status).toBe(1);
  expect(stderr).toContain(
    `ConfigError: TSCHAT_KERNELS: expected one of ${kernelSets().join(", ")}, which this processor has, got "sse9"`,
  );
});

test("useKernels changes the set from then on, and refuses unknown names without changing it", () => {
  useKernels("plain");
  expect(kernelSet()).toBe("plain");
  const error = failure(() => useKernels("mmx"));
  expect(error).toMatchObject({ name: "TypeError", code: "E_ARGUMENT" });
  expect(error.message).toContain(`this processor has ${kernelSets().join(", ")}`);
  expect(kernelSet()).toBe("plain");
});
