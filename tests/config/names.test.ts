import { expect, test } from "vitest";
import { didYouMean, flagOf, kebab, nearest } from "../../src/config/names.ts";

test("names in camelCase and snake_case become kebab-case", () => {
  expect(kebab("adamBeta1")).toBe("adam-beta1");
  expect(kebab("actor_model_name_or_path")).toBe("actor-model-name-or-path");
  expect(flagOf("ppo.klCoef")).toBe("--ppo.kl-coef");
});

test("the nearest name is the one with the fewest edits", () => {
  const names = ["--kl-coef", "--kl-target", "--clip-range"];
  expect(nearest("--kl-coeff", names)).toBe("--kl-coef"); // one insertion
  expect(nearest("--kl_ceof", names)).toBe("--kl-coef"); // one swap
  expect(nearest("--cliprange", names)).toBe("--clip-range"); // dashes do not count
  expect(nearest("KLTARGET", names)).toBe("--kl-target");
});

test("nothing is suggested for a name that resembles none", () => {
  expect(nearest("--temperature", ["--kl-coef", "--seed"])).toBeUndefined();
  // three edits would turn it into any name of three letters
  expect(nearest("abc", ["xyz"])).toBeUndefined();
  expect(didYouMean("serve", ["sft", "chat"])).toBe("");
  expect(didYouMean("sfft", ["sft", "chat"])).toBe("; did you mean sft?");
});
