import { existsSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { fetchInputs } from "../../src/cli/hub-inputs.ts";
import { runCommandLine } from "../../src/cli/program.ts";
import { group, integer, path, paths } from "../../src/config/fields.ts";
import { mainCommit } from "../hub/local-hub.ts";
import { type HubSetup, setUpHub } from "../hub/setup.ts";

const fields = {
  model: path({ hub: "model", help: "" }),
  ...group("LoRA:", { adapter: path({ hub: "adapter", optional: true, help: "" }) }),
  data: paths({ hub: "dataset", help: "" }),
  output: path({ help: "" }),
  seed: integer({ default: 1, help: "" }),
};
const adapter = { "adapter_config.json": "{}", "adapter_model.safetensors": "x" };
let setup: HubSetup;
let err = "", out = "";

beforeEach(async () => {
  setup = await setUpHub(
    { name: "org/tiny", files: { "config.json": "{}", "model.safetensors": "w" } }, { name: "org/lora", files: adapter },
    { kind: "dataset", name: "org/set", files: { "train.jsonl": "{}", "test.jsonl": "[]" } },
  );
  const variables = { ...setup.env, HF_HUB_OFFLINE: "0", HF_HUB_CACHE: setup.cache, TSCHAT_HUB_PINS: undefined };
  for (const [name, value] of Object.entries(variables)) vi.stubEnv(name, value);
  [err, out] = ["", ""];
  vi.spyOn(process.stderr, "write").mockImplementation((text) => { err += String(text); return true; });
  vi.spyOn(process.stdout, "write").mockImplementation((text) => { out += String(text); return true; });
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
});

describe("fetchInputs", () => {
  test("downloads what settings name, and puts the commits in their place", async () => {
    const data = ["org/set", "./local.jsonl", "org/set:test"];
    const config = { model: "org/tiny", adapter: "org/lora", data, output: "runs/x", seed: 3 };
    expect(await fetchInputs(fields, config)).toEqual({
      model: `org/tiny@${mainCommit}`, adapter: join(setup.cache, "models--org--lora", "snapshots", mainCommit),
      data: [`org/set@${mainCommit}`, "./local.jsonl", `org/set@${mainCommit}:test`], output: "runs/x", seed: 3,
    });
    expect(existsSync(join(setup.cache, "models--org--tiny", "snapshots", mainCommit, "model.safetensors"))).toBe(true);
    expect(err).toMatch(/^org\/tiny: downloading 0 kB\norg\/tiny: 0 kB in .*, kept in .*\norg\/lora: downloading/);
  });

  test("keeps what else is said of a source of data", async () => {
    const data = [{ path: "org/set", weight: 2 }, { path: "./local.jsonl" }] as unknown as string[];
    expect((await fetchInputs(fields, { model: "./m", adapter: undefined, data, output: "x", seed: 3 })).data).toEqual(
      [{ path: `org/set@${mainCommit}`, weight: 2 }, { path: "./local.jsonl" }],
    );
  });

  test("asks for nothing when all are paths, or made by this run", async () => {
    const config = { model: "sft/model", adapter: undefined, data: ["a.jsonl"], output: "org/tiny", seed: 3 };
    expect(await fetchInputs(fields, config, [join(".", "sft", "model")])).toBe(config);
    expect(setup.hub.requests).toEqual([]);
    expect(err).toBe("");
  });
});

describe("tschat download", () => {
  test("prints where a model is, and nothing else, on standard output", async () => {
    expect(await runCommandLine(["download", "org/tiny"])).toBe(0);
    expect(out).toBe(`${join(setup.cache, "models--org--tiny", "snapshots", mainCommit)}\n`);
  });

  test("prints the files of a data set", async () => {
    expect(await runCommandLine(["download", "org/set:test", "--dataset"])).toBe(0);
    expect(out).toBe(`${join(setup.cache, "datasets--org--set", "snapshots", mainCommit, "test.jsonl")}\n`);
  });

  test.each([
    [["./x"], 2, "./x: expected a name on the hub such as org/name or org/name@revision\n"],
    [["org/nix"], 2, /^org\/nix: no such file or folder here, and no such model at http/],
    [["org/set:dev", "--dataset"], 2, "org/set: has no dev; there are org/set:test, org/set:train\n"],
    [[], 2, /^--id: required: model or data set/],
  ] as [string[], number, string | RegExp][])("with %j fails", async (args, code, message) => {
    expect(await runCommandLine(["download", ...args])).toBe(code);
    expect(err).toMatch(message);
    expect(out).toBe("");
  });

  test("exits with 1 when the hub cannot be reached", async () => {
    setup.hub.faults.push((_, response) => {
      response.writeHead(503, { "retry-after": "36000" }).end();
      return true;
    });
    expect(await runCommandLine(["download", "org/tiny"])).toBe(1);
    expect(err).toMatch(/^org\/tiny: no such file .*, and could not reach http.* 503 .*; it asks to wait 600 minutes; try again later/);
  });
});
