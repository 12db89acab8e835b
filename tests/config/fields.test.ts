import { expect, expectTypeOf, test } from "vitest";
import {
  boolean, choice, choices, expectedValue, group, integer, number, path, paths, text, type ConfigOf,
} from "../../src/config/fields.ts";

const fields = {
  model: path({ help: "h" }),
  data: paths({ help: "h" }),
  system: text({ optional: true, help: "h" }),
  epochs: integer({ default: 1, help: "h" }),
  klTarget: number({ optional: true, help: "h" }),
  whiten: boolean({ default: true, help: "h" }),
  schedule: choice(["cosine", "linear"], { default: "cosine", help: "h" }),
  parity: choice(["a", "b"], { optional: true, help: "h" }),
  step: choices(["x", "y"], { default: ["x"], help: "h" }),
};

test("a declaration gives the type of its value, undefined only where it is optional", () => {
  expectTypeOf<ConfigOf<typeof fields>>().toEqualTypeOf<{
    readonly model: string;
    readonly data: readonly string[];
    readonly system: string | undefined;
    readonly epochs: number;
    readonly klTarget: number | undefined;
    readonly whiten: boolean;
    readonly schedule: "cosine" | "linear";
    readonly parity: "a" | "b" | undefined;
    readonly step: readonly ("x" | "y")[];
  }>();
  expect(Object.entries(fields).filter(([, field]) => field.isRequired).map(([name]) => name)).toEqual(["model", "data"]);
});

test("messages say what a field accepts", () => {
  expect(expectedValue(number({ min: 0, max: 1, default: 1, help: "" }))).toBe("a number in [0, 1]");
  expect(expectedValue(number({ above: 0, default: 1, help: "" }))).toBe("a number above 0");
  expect(expectedValue(number({ above: 0, max: 1, default: 1, help: "" }))).toBe("a number above 0 and at most 1");
  expect(expectedValue(integer({ min: 1, default: 1, help: "" }))).toBe("a whole number of at least 1");
  expect(expectedValue(integer({ max: 9, default: 1, help: "" }))).toBe("a whole number of at most 9");
  expect(expectedValue(fields.schedule)).toBe("one of cosine, linear");
});

test("a group sets the heading and nothing else", () => {
  const { model, data } = group("Data:", { model: fields.model, data: fields.data });
  expect(model).toEqual({ ...fields.model, group: "Data:" });
  expect(data.group).toBe("Data:");
});
