import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { boolean, integer, number, path, paths, text } from "../../src/config/fields.ts";
import { fileLayers, resolve } from "../../src/config/resolve.ts";
import { readSettings, resolvedYaml, savedValues, type SettingsLayout } from "../../src/config/settings-file.ts";
import { rejection } from "../failure.ts";
import { temporaryFolder } from "../temporary-folder.ts";

const shared = {
  model: path({ help: "" }),
  seed: integer({ default: 1, help: "" }),
  force: boolean({ default: false, flagOnly: true, help: "" }),
};
const ppo = {
  ...shared,
  data: paths({ help: "" }),
  klCoef: number({ default: 0.05, help: "" }),
  klTarget: number({ optional: true, help: "" }),
  dataSplit: text({ optional: true, help: "" }),
};
const layout: SettingsLayout = { shared, sections: { ppo, sft: shared } };

function file(content: string): string {
  const name = join(temporaryFolder(), "train.yaml");
  writeFileSync(name, content);
  return name;
}

describe("readSettings", () => {
  test("gives shared values, sections and the line of each key", async () => {
    const name = file("# mine\nmodel: base\n\nppo:\n  klCoef: 1e-2\n  seed: 7\nsft:\n");
    const settings = await readSettings(name, layout);
    expect(settings.shared).toEqual({ model: "base" });
    expect(settings.sections).toEqual({ ppo: { klCoef: 0.01, seed: 7 }, sft: {} });
    expect(settings.label("model")).toBe(`${name}:2: model`);
    expect(settings.label("ppo", "seed")).toBe(`${name}:6: ppo.seed`);
  });

  test("an empty file is one without settings", async () => {
    const { shared: values, sections } = await readSettings(file("# nothing yet\n"), layout);
    expect([values, sections]).toEqual([{}, {}]);
  });

  test.each([
    ["a key that no section has", "ppo:\n  seed: 1\n  kl_coeff: 2\n", ":3: ppo.kl_coeff: unknown setting; did you mean klCoef?"],
    ["an unknown key at the top", "modle: x\n", ":1: modle: unknown setting; did you mean model?"],
    ["an unknown section", "seed: 1\npppo:\n  seed: 1\n", ":2: pppo: unknown setting; did you mean ppo?"],
    ["a step's key at the top", "klCoef: 1\n", ":1: klCoef: unknown setting"],
    ["a key of an object's prototype", "toString: 1\n", ":1: toString: unknown setting"],
    ["a flag that has no place in a file", "force: true\n", ":1: force: unknown setting"],
    ["a list for a section", "ppo: [1]\n", ':1: ppo: expected settings as "name: value", got [1]'],
    ["a file that is no mapping", "- 1\n", ': the file: expected settings as "name: value", got [1]'],
    ["a key twice", "seed: 1\nseed: 2\n", ":2: not valid YAML: Map keys must be unique"],
    ["broken YAML", "model: 'x\nseed: 1", ":2: not valid YAML: Missing closing 'quote"],
  ])("refuses %s", async (_, content, message) => {
    const name = file(content);
    expect(await rejection(() => readSettings(name, layout))).toEqual({ name: "ConfigError", code: "E_CONFIG", message: name + message });
  });

  test("says why a file cannot be read", async () => {
    const folder = temporaryFolder();
    expect((await rejection(() => readSettings(join(folder, "no.yaml"), layout))).message).toBe(
      `could not read the settings file ${folder}/no.yaml: no such file or directory`,
    );
    expect((await rejection(() => readSettings(folder, layout))).message).toContain("illegal operation on a directory");
  });
});

test("a resolved configuration read back is the same configuration", async () => {
  const settings = { name: "ppo", fields: ppo };
  // Values that YAML could take for something else: a list, a number, a boolean, a date, a comment.
  const values = {
    model: "2026-11-24", data: ["no", "1e3", "a: b", "#x"], klCoef: 1e-7, klTarget: undefined, dataSplit: "2,4,4", force: true,
  };
  const config = resolve(settings, [{ values, label: (key) => key }]);
  const text = resolvedYaml({ ppo: savedValues(ppo, config) });
  const back = resolve(settings, fileLayers(await readSettings(file(text), layout), "ppo"));
  expect(back).toEqual({ ...config, force: false });
  expect(back).toMatchObject({ model: "2026-11-24", data: ["no", "1e3", "a: b", "#x"], klCoef: 1e-7, dataSplit: "2,4,4" });
});
