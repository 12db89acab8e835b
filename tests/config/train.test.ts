import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readSettings, type SettingsFile } from "../../src/config/settings-file.ts";
import { settingsLayout } from "../../src/pipeline/config.ts";
import { resolveTrain } from "../../src/pipeline/resolve.ts";
import { failure } from "../failure.ts";
import { temporaryFolder } from "../temporary-folder.ts";

async function yaml(text: string): Promise<SettingsFile> {
  const name = join(temporaryFolder(), "train.yaml");
  writeFileSync(name, text);
  return readSettings(name, settingsLayout);
}

describe("resolveTrain", () => {
  test("chains the steps: the SFT model starts the reward model and PPO, the reward model scores", () => {
    const { step, sft, reward, ppo } = resolveTrain({ flags: { model: "base", data: ["d"], output: "runs/x" }, file: undefined });
    expect(step).toEqual(["sft", "reward", "ppo"]);
    expect([sft?.model, sft?.output]).toEqual(["base", "runs/x/sft"]);
    expect([reward?.model, reward?.output]).toEqual(["runs/x/sft/model", "runs/x/reward"]);
    expect([ppo?.actor, ppo?.rewardModel, ppo?.output]).toEqual(["runs/x/sft/model", "runs/x/reward/model", "runs/x/ppo"]);
    expect([sft?.data, reward?.data, ppo?.data]).toEqual([["d"], ["d"], ["d"]]);
  });

  test("a step's flag wins over the shared flag, then the step's section, then the shared key, then the default", async () => {
    const file = await yaml("seed: 5\nlogEvery: 5\nsaveEvery: 5\nmodel: base\ndata: d\nsft:\n  seed: 6\n  logEvery: 6\n");
    const { sft, reward } = resolveTrain({ flags: { output: "o", seed: "7", "sft.seed": "8" }, file });
    expect([sft?.seed, sft?.logEvery, sft?.saveEvery, sft?.evalEvery]).toEqual([8, 6, 5, 0]);
    expect([reward?.seed, reward?.logEvery, reward?.saveEvery, reward?.evalEvery]).toEqual([7, 5, 5, 0]);
    expect(sft?.data).toEqual(["d"]);
  });

  test("the shared model and output are not those of a later step", async () => {
    const file = await yaml("model: base\noutput: o\ndata: d\nreward:\n  model: other\n");
    const { reward, ppo } = resolveTrain({ flags: {}, file });
    expect([reward?.model, reward?.output, ppo?.output]).toEqual(["other", "o/reward", "o/ppo"]);
  });

  test("steps are chosen by name or number, in any order, and the others need nothing", () => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, "sft", "model"), { recursive: true });
    const { step, sft, reward, ppo } = resolveTrain({ flags: { output: folder, data: ["d"], step: ["3,2"] }, file: undefined });
    expect(step).toEqual(["reward", "ppo"]);
    expect(sft).toBeUndefined();
    expect(reward?.model).toBe(join(folder, "sft", "model"));
    expect(ppo?.actor).toBe(join(folder, "sft", "model"));
  });

  test("a step whose input nobody makes is refused, with the ways out", () => {
    const flags = { output: "/nowhere", data: ["d"], step: ["ppo"] };
    expect(failure(() => resolveTrain({ flags, file: undefined }))).toEqual({
      name: "ConfigError", code: "E_CONFIG",
      message: "step ppo needs /nowhere/sft/model, which step sft makes: add it (--step sft,ppo) or name another model (--ppo.actor <dir>)",
    });
    const named = { ...flags, "ppo.actor": "a", "ppo.rewardModel": "r" };
    expect(resolveTrain({ flags: named, file: undefined }).ppo).toMatchObject({ actor: "a", rewardModel: "r" });
  });

  test("a missing setting is asked for by its shared flag where there is one", () => {
    const missing = (flags: Record<string, unknown>): string => failure(() => resolveTrain({ flags, file: undefined })).message;
    expect(missing({ output: "o" })).toMatch(/^--model: required: .*\n--data: required: /);
    expect(missing({})).toMatch(/^--output: required: /);
  });

  test("checks across fields hold for the steps too", () => {
    const flags = { model: "m", data: ["d"], output: "o", "ppo.miniBatchSize": "5" };
    expect(failure(() => resolveTrain({ flags, file: undefined })).message).toMatch(/^--mini-batch-size: expected a divisor/);
  });
});
