import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { SETTINGS_PAGE, withTables } from "../../scripts/settings-table.mjs";
import { kebab } from "../../src/config/names.ts";
import type { Fields } from "../../src/config/fields.ts";
import { trainFields } from "../../src/pipeline/config.ts";
import { ppoFields } from "../../src/ppo/config.ts";
import { rewardFields } from "../../src/reward/config.ts";
import { sftFields } from "../../src/sft/config.ts";

const page = readFileSync(SETTINGS_PAGE, "utf8");

test("the tables of docs/settings.md are those of the declarations (else: node_modules/.bin/node scripts/settings-table.mjs)", () => {
  expect(page).toBe(withTables(page));
});

/** Every flag that a command knows, in kebab-case, and the setting it stands for. */
function spellings(fields: Fields): Map<string, string> {
  return new Map(Object.entries(fields).flatMap(([name, field]) =>
    [name, ...field.aliases].map((spelling) => [`--${kebab(spelling)}`, `--${kebab(name)}`] as const)));
}

interface MappedFlag {
  /** As DeepSpeed-Chat writes it. */
  original: string;
  /** The setting that the page names beside it, or "". */
  ours: string;
  isAccepted: boolean;
}

/** The rows of the tables below a heading, a row for each flag in the first column. */
function mappedFlags(heading: string): MappedFlag[] {
  const section = page.split(`\n### ${heading}`)[1]?.split("\n### ")[0] ?? "";
  return section.split("\n").filter((line) => line.startsWith("| `--")).flatMap((line) => {
    const [, originals = "", ours = "", accepted = ""] = line.split("|").map((cell) => cell.trim());
    return originals.split(", ").map((original) => ({
      original: original.replaceAll("`", ""), ours: ours.replaceAll("`", ""), isAccepted: accepted === "yes",
    }));
  });
}

describe("the flags of DeepSpeed-Chat in docs/settings.md", () => {
  test.each([
    ["Steps 1 and 2", 37, [sftFields, rewardFields]],
    ["Step 3", 60, [ppoFields]],
    ["`e2e_rlhf.py`", 7, [trainFields]],
  ])("%s: accepted or refused as the page says", (heading, count, commands) => {
    const flags = mappedFlags(heading);
    expect(flags).toHaveLength(count);
    for (const { original, ours, isAccepted } of flags) {
      const meanings = commands.map((fields) => spellings(fields).get(kebab(original))).filter((meaning) => meaning !== undefined);
      expect({ original, meanings: [...new Set(meanings)] }).toEqual({ original, meanings: isAccepted ? [ours] : [] });
      if (ours !== "") expect(commands.some((fields) => [...spellings(fields).values()].includes(ours))).toBe(true);
    }
  });
});
