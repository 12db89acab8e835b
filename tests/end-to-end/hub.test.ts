import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { loadDataset } from "../../src/data/dataset.ts";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { mainCommit } from "../hub/local-hub.ts";
import { setUpHub } from "../hub/setup.ts";
import { temporaryFolder } from "../temporary-folder.ts";
import { pairs, smallSteps, tinyModel, tschat } from "./cli.ts";

/** A hub with a tiny model and a data set with two splits. */
async function setUp() {
  const folder = temporaryFolder(), model = tinyModel(folder);
  const files = Object.fromEntries(readdirSync(model).map((name) => [name, readFileSync(join(model, name))]));
  const lines = pairs.map((pair) => JSON.stringify(pair));
  const { hub, env, cache } = await setUpHub(
    { name: "org/tiny", files, large: ["model.safetensors"] },
    { kind: "dataset", name: "org/pairs", files: { "train.jsonl": lines.slice(4).join("\n"), "test.jsonl": lines.slice(0, 4).join("\n") } },
  );
  return { folder, model, hub, env: { ...env, HF_HUB_CACHE: cache } };
}

test("a step trains on names of the hub, says which commits they were, and runs again from its own settings without the hub", async () => {
  const { folder, hub, env } = await setUp();
  const args = ["--data", "org/pairs", "--eval-data", "org/pairs:test", "--dtype", "float32", "--max-steps", "1"];
  const online = { ...env, HF_HUB_OFFLINE: "0" };
  const first = await tschat(["sft", "--model", "org/tiny", ...args, "--output", "one"], { cwd: folder, env: online });
  expect(first.code).toBe(0);
  expect(first.err).toMatch(/^org\/tiny: downloading \d+ kB\norg\/tiny: \d+ kB in .*\norg\/pairs: /);
  expect(first.out).toContain("8 to train on, 4 held out");
  const config = readFileSync(join(folder, "one", "config.yaml"), "utf8");
  expect(config).toContain(`model: org/tiny@${mainCommit}\n`);
  expect(config).toContain(`- org/pairs@${mainCommit}\n`);
  expect(config).toContain(`evalData: org/pairs@${mainCommit}:test\n`);
  // The process that computes asks nothing again: of each repository a commit, a listing, and every file once.
  expect(hub.requests.filter(({ path }) => path.includes("/revision/"))).toHaveLength(2);
  expect(new Set(hub.downloads).size).toBe(hub.downloads.length);

  await hub.stop();
  const second = await tschat(["sft", "--config", "one/config.yaml", "--output", "two"], { cwd: folder, env });
  expect([second.code, second.err]).toEqual([0, ""]);
  const weights = (run: string): Buffer => readFileSync(join(folder, run, "model", "model.safetensors"));
  expect(weights("two").equals(weights("one"))).toBe(true);
});

test("all steps take names of the hub; the run's own models are never looked for there, though sft/model looks like one", async () => {
  const { folder, hub, env } = await setUp();
  const cwd = join(folder, "empty");
  mkdirSync(cwd);
  const args = ["--model", "org/tiny", "--data", "org/pairs", "--output", ".", ...smallSteps, "--step", "sft,reward", "--max-steps", "1"];
  const { code, out } = await tschat(["train", ...args], { cwd, env: { ...env, HF_HUB_OFFLINE: "0" } });
  expect([code, existsSync(join(cwd, "reward", "model"))]).toEqual([0, true]);
  expect(out).toContain("reward: finished in");
  expect(hub.requests.some(({ path }) => path.includes("sft/model"))).toBe(false);
});

test("a name that is a folder here is that folder, though the hub has it too", async () => {
  const { folder, model, hub, env } = await setUp();
  mkdirSync(join(folder, "org"));
  cpSync(model, join(folder, "org", "tiny"), { recursive: true });
  const chat = (cwd: string) => tschat(["chat", "org/tiny"], { cwd, env: { ...env, HF_HUB_OFFLINE: "0" }, input: "" });
  expect(await chat(folder)).toMatchObject({ code: 0, err: "" });
  expect(hub.requests).toEqual([]);
  expect(await chat(model)).toMatchObject({ code: 0, err: expect.stringContaining("org/tiny: downloading") });
});

test("the library takes them too", async () => {
  const { model, hub, env } = await setUp();
  for (const [name, value] of Object.entries({ ...env, HF_HUB_OFFLINE: "0", TSCHAT_HUB_PINS: undefined })) vi.stubEnv(name, value);
  try {
    const [ours, local] = [await CausalLM.load("org/tiny"), await CausalLM.load(model)];
    const prompt = (await Tokenizer.load("org/tiny")).encode("hello");
    expect(await prompt).toEqual(await (await Tokenizer.load(model)).encode("hello"));
    const logits = async (one: CausalLM): Promise<unknown> => one.tokenLogprobs([await prompt]).logprobs.toArray();
    expect(await logits(ours)).toEqual(await logits(local));
    expect((await loadDataset(["org/pairs", "org/pairs:test"], "sft", { seed: 1 })).train).toHaveLength(12);
    expect(hub.requests.filter(({ path }) => path.includes("/revision/"))).toHaveLength(2);
  } finally {
    vi.unstubAllEnvs();
  }
});
