import { describe, expect, test } from "vitest";
import { boolean, choice, integer, number, path, paths, text } from "../../src/config/fields.ts";
import { completeConfig, flagLayer, onlyKeys, resolve, type Layer, type Settings } from "../../src/config/resolve.ts";
import { ConfigError } from "../../src/errors.ts";
import { failure } from "../failure.ts";

const fields = {
  model: path({ help: "model to start from" }),
  data: paths({ default: ["d"], help: "" }),
  gamma: number({ default: 1, min: 0, max: 1, help: "" }),
  rate: number({ default: 1e-5, above: 0, help: "" }),
  epochs: integer({ default: 1, min: 1, help: "" }),
  limit: integer({ optional: true, min: 1, help: "" }),
  whiten: boolean({ default: true, help: "" }),
  dtype: choice(["float32", "bfloat16"], { default: "float32", synonyms: { bf16: "bfloat16" }, help: "" }),
  system: text({ optional: true, help: "" }),
};
const settings: Settings<typeof fields> = { name: "demo", fields };
const file = (values: Record<string, unknown>): Layer => ({ values, label: (key) => `f.yaml:1: demo.${key}` });

describe("resolve", () => {
  test("takes each value from the first layer that has it, and the default where none has", () => {
    const config = resolve(settings, [flagLayer({ model: "flag", epochs: "3" }), file({ model: "file", epochs: 2, gamma: 0.5 })]);
    expect(config).toEqual({
      model: "flag", data: ["d"], gamma: 0.5, rate: 1e-5, epochs: 3, limit: undefined, whiten: true, dtype: "float32", system: undefined,
    });
  });

  test("a recipe is stronger than a default and weaker than what was given", () => {
    const withRecipe: Settings<typeof fields> = { ...settings, recipe: ({ whiten }) => (whiten ? {} : { gamma: 0.9, epochs: 7 }) };
    const plain = resolve(withRecipe, [flagLayer({ model: "m" })]);
    expect([plain.gamma, plain.epochs]).toEqual([1, 1]);
    const chosen = resolve(withRecipe, [flagLayer({ model: "m", whiten: false, epochs: "2" })]);
    expect([chosen.gamma, chosen.epochs]).toEqual([0.9, 2]);
  });

  test("understands numbers as text, also with an exponent, a synonym of a choice, and one path for a list", () => {
    const flags = { model: "m", rate: "1e-5", epochs: "1e2", dtype: "bf16", data: "a.jsonl", limit: " 5 " };
    const config = resolve(settings, [flagLayer(flags)]);
    expect(config).toMatchObject({ rate: 0.00001, epochs: 100, dtype: "bfloat16", data: ["a.jsonl"], limit: 5 });
  });

  test.each([
    [{ gamma: "1.5" }, "--gamma: expected a number in [0, 1], got 1.5"],
    [{ gamma: "one" }, '--gamma: expected a number in [0, 1], got "one"'],
    [{ gamma: "" }, '--gamma: expected a number in [0, 1], got ""'],
    [{ gamma: "0x1" }, '--gamma: expected a number in [0, 1], got "0x1"'],
    [{ gamma: "NaN" }, '--gamma: expected a number in [0, 1], got "NaN"'],
    [{ rate: "0" }, "--rate: expected a number above 0, got 0"],
    [{ epochs: "1.5" }, "--epochs: expected a whole number of at least 1, got 1.5"],
    [{ dtype: "fp16" }, '--dtype: expected one of float32, bfloat16, got "fp16"'],
    [{ model: "" }, '--model: expected a path, got ""'],
  ])("refuses the flag %o", (flags, message) => {
    const refused = failure(() => resolve(settings, [flagLayer({ model: "m", ...flags })]));
    expect(refused).toEqual({ name: "ConfigError", code: "E_CONFIG", message });
  });

  test.each([
    [{ whiten: "no" }, 'f.yaml:1: demo.whiten: expected true or false, got "no"'],
    [{ limit: null }, "f.yaml:1: demo.limit: expected a whole number of at least 1, got null"],
    [{ data: [] }, "f.yaml:1: demo.data: expected one or more paths, got []"],
    [{ system: 5 }, "f.yaml:1: demo.system: expected text, got 5"],
    [{ rate: Infinity }, "f.yaml:1: demo.rate: expected a number above 0, got Infinity"],
  ])("refuses the value %o of a file, naming its place", (values, message) => {
    expect(failure(() => resolve(settings, [flagLayer({ model: "m" }), file(values)])).message).toBe(message);
  });

  test("names every missing setting with what it is, and every wrong one", () => {
    expect(() => resolve(settings, [flagLayer({})])).toThrow(new ConfigError("--model: required: model to start from"));
    const { message } = failure(() => resolve(settings, [flagLayer({ model: "m", gamma: "2", epochs: "0" })]));
    expect(message.split("\n")).toEqual([
      "--gamma: expected a number in [0, 1], got 2", "--epochs: expected a whole number of at least 1, got 0",
    ]);
  });

  test("runs the check across fields last", () => {
    const checked: Settings<typeof fields> = {
      ...settings,
      check: ({ gamma, epochs }) => { if (gamma < 1 && epochs > 1) throw new ConfigError("--epochs: too many for this gamma"); },
    };
    expect(failure(() => completeConfig(checked, { model: "m", gamma: 0.5, epochs: 2 })).message).toBe("--epochs: too many for this gamma");
    expect(completeConfig(checked, { model: "m", gamma: 0.5 }).epochs).toBe(1);
  });
});

test("a layer of flags may be that of one step, and may be cut to some keys", () => {
  const flags = { seed: "1", "ppo.seed": "2", "ppo.klCoef": "0.1" };
  expect(flagLayer(flags, "ppo.").values).toEqual({ seed: "2", klCoef: "0.1" });
  expect(flagLayer(flags, "ppo.").label("klCoef")).toBe("--ppo.kl-coef");
  expect(onlyKeys(flagLayer({ ...flags, model: "m" }), { seed: integer({ help: "" }) }).values).toEqual({ seed: "1" });
});
