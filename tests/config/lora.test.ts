import { describe, expect, test } from "vitest";
import { type adapterField, loraChoice, type loraFields } from "../../src/config/lora.ts";
import { completeConfig } from "../../src/config/resolve.ts";
import { rewardSettings } from "../../src/reward/config.ts";
import { type SftConfig, sftSettings } from "../../src/sft/config.ts";
import { failure } from "../failure.ts";

type Given = Partial<Pick<SftConfig, keyof typeof loraFields | keyof typeof adapterField>>;
const given = { model: "m", data: ["d"], output: "o" };
const commands: [string, (values: Given) => object][] = [
  ["sft", (values) => completeConfig(sftSettings, { ...given, ...values })],
  ["reward", (values) => completeConfig(rewardSettings, { ...given, ...values })],
];

describe.each(commands)("tschat %s", (_, complete) => {
  test.each<[Given, string]>([
    [{ loraAlpha: 16 }, "--lora-alpha: only adapters use it; give --lora-rank too"],
    [{ loraDropout: 0 }, "--lora-dropout: only adapters use it; give --lora-rank too"],
    [{ loraTargets: "q_proj" }, "--lora-targets: only adapters use it; give --lora-rank too"],
    [{ onlyLora: false }, "--only-lora: only adapters use it; give --lora-rank too"],
    [{ loraLearningRate: 1e-4 }, "--lora-learning-rate: only adapters use it; give --lora-rank too"],
    [{ loraRank: -1 }, "loraRank: expected a whole number of at least 0, got -1"],
    [{ loraRank: 8, loraDropout: 1 }, "loraDropout: expected a number in [0, 0.99], got 1"],
    [{ loraRank: 8, adapter: "a" },
      "--adapter: not beside --lora-rank: the new adapter would belong to a model that is nowhere on disk; make it first: tschat merge"],
  ])("refuses %j", (wrong, message) => {
    expect(failure(() => complete(wrong))).toEqual({ name: "ConfigError", code: "E_CONFIG", message });
  });

  test("takes them with a rank, and an adapter without", () => {
    const all = { loraRank: 8, loraAlpha: 4, loraDropout: 0.1, loraTargets: "q_proj", onlyLora: false, loraLearningRate: 1e-4 };
    expect(complete(all)).toMatchObject(all);
    expect(complete({ adapter: "a" })).toMatchObject({ adapter: "a", loraRank: 0 });
  });
});

test("what is not given is left to the model's defaults", () => {
  const nothing = { loraAlpha: undefined, loraDropout: undefined, loraTargets: undefined, onlyLora: true };
  expect(loraChoice(4, 7, nothing)).toEqual({ rank: 4, seed: 7, onlyLora: true });
  const all = { loraAlpha: 1, loraDropout: 0.5, loraTargets: "fc1", onlyLora: false };
  expect(loraChoice(4, 7, all)).toEqual({ rank: 4, seed: 7, alpha: 1, dropout: 0.5, targets: "fc1", onlyLora: false });
});
