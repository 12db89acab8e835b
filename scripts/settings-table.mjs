// Puts the tables of all settings into docs/settings.md, from where they are declared: node_modules/.bin/node scripts/settings-table.mjs
// It reads the TypeScript itself, so it needs the project's own Node and no build. A test compares the page with the declarations.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { chatFields } from "../src/cli/chat-config.ts";
import { downloadFields } from "../src/cli/download-config.ts";
import { mergeFields } from "../src/cli/merge-config.ts";
import { configField, forceField, outputField, sharedFields } from "../src/config/common.ts";
import { expectedValue } from "../src/config/fields.ts";
import { flagOf, kebab } from "../src/config/names.ts";
import { quickstartFields, trainFields } from "../src/pipeline/config.ts";
import { deepSpeedChatRecipe, ppoFields } from "../src/ppo/config.ts";
import { rewardFields } from "../src/reward/config.ts";
import { sftFields } from "../src/sft/config.ts";

/** The page that holds the tables. */
export const SETTINGS_PAGE = fileURLToPath(new URL("../docs/settings.md", import.meta.url));

/** @typedef {import("../src/config/fields.ts").Field} Field */
/** @typedef {import("../src/config/fields.ts").Fields} Fields */

const allSteps = { ...outputField, ...sharedFields, ...configField };

/** The tables by the name that their marker in the page has. */
export const tables = {
  "all-steps": settingsTable(allSteps),
  sft: settingsTable(without(sftFields, allSteps)),
  reward: settingsTable(without(rewardFields, allSteps)),
  ppo: settingsTable(without(ppoFields, allSteps)),
  parity: parityTable(),
  train: settingsTable(without(trainFields, allSteps)),
  merge: settingsTable(mergeFields),
  chat: settingsTable(chatFields),
  download: settingsTable(downloadFields),
  quickstart: settingsTable(without(quickstartFields, forceField)),
};

/**
 * The page with every table replaced by the current one. A table stands between `<!-- settings: NAME -->` and `<!-- end -->`.
 *
 * @param {string} page
 * @returns {string}
 */
export function withTables(page) {
  const missing = new Set(Object.keys(tables));
  const result = page.replace(/(<!-- settings: (\S+) -->\n)[\s\S]*?(<!-- end -->)/g, (_, start, name, end) => {
    if (!missing.delete(name)) throw new Error(`docs/settings.md: there is no table "${name}", or it stands there twice`);
    return `${start}${tables[/** @type {keyof typeof tables} */ (name)]}\n${end}`;
  });
  if (missing.size > 0) throw new Error(`docs/settings.md: has no place for the tables ${[...missing].join(", ")}`);
  return result;
}

/**
 * @param {Fields} fields
 * @param {Fields} others
 * @returns {Fields}
 */
function without(fields, others) {
  return Object.fromEntries(Object.entries(fields).filter(([name]) => !Object.hasOwn(others, name)));
}

/** @param {Fields} fields */
function settingsTable(fields) {
  const rows = Object.entries(fields).map(([name, field]) => {
    const aliases = field.aliases.map((alias) => code(`--${kebab(alias)}`)).join(", ");
    return [code(flagOf(name)), expectedValue(field), defaultOf(field), field.help, aliases];
  });
  return markdown(["Flag", "Value", "Default", "Meaning", "Other names"], rows);
}

function parityTable() {
  const defaults = new Map(Object.entries(ppoFields).map(([name, field]) => [name, /** @type {Field} */ (field).default]));
  const rows = Object.entries(deepSpeedChatRecipe).map(([name, value]) => [code(flagOf(name)), shown(defaults.get(name)), shown(value)]);
  return markdown(["Flag", "Default", "With `--parity deepspeed-chat`"], rows);
}

/** @param {Field} field */
function defaultOf(field) {
  if (field.isRequired) return "required";
  return field.default === undefined ? "none" : shown(field.default);
}

/**
 * @param {unknown} value
 * @returns {string}
 */
function shown(value) {
  if (Array.isArray(value)) return value.map(shown).join(" ");
  return code(typeof value === "number" && value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential() : String(value));
}

/** @param {string} text */
function code(text) {
  return `\`${text}\``;
}

/**
 * @param {string[]} header
 * @param {string[][]} rows
 */
function markdown(header, rows) {
  const line = (/** @type {string[]} */ cells) => `| ${cells.join(" | ")} |`;
  return [line(header), line(header.map(() => "---")), ...rows.map(line)].join("\n");
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(SETTINGS_PAGE, withTables(readFileSync(SETTINGS_PAGE, "utf8")));
}
