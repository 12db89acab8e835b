// Compares the real tokenizers that tokenizer_fixtures.py wrote with `--full FOLDER`: node tests/external/tokenizer-check.mjs FOLDER
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";

const folder = process.argv[2] ?? "";
const read = (...names) => JSON.parse(readFileSync(join(folder, ...names), "utf8"));
const strings = read("strings.json");
let failures = 0;
for (const entry of readdirSync(folder, { withFileTypes: true })) {
  if (!entry.isDirectory()) continue;
  const expected = read(entry.name, "expected.json");
  const tokenizer = await Tokenizer.load(join(folder, entry.name));
  const found = await tokenizer.encodeBatch(strings);
  const differs = (actual, wanted) => wanted !== undefined && wanted !== null && JSON.stringify(actual) !== JSON.stringify(wanted);
  const bad = {
    ids: expected.ids.filter((row, i) => differs(found[i], row)).length,
    texts: expected.texts.filter((text, i) => differs(tokenizer.decode(expected.ids[i] ?? []), text ?? undefined)).length,
  };
  const first = expected.ids.findIndex((row, i) => differs(found[i], row));
  const firstText = expected.texts.findIndex((text, i) => differs(tokenizer.decode(expected.ids[i] ?? []), text ?? undefined));
  failures += bad.ids + bad.texts;
  const compared = expected.ids.filter((row) => row !== null).length;
  console.log(`${entry.name}: ${compared} strings, ${bad.ids} with other ids, ${bad.texts} of ${expected.texts.length} with another text`);
  if (first >= 0) console.log("  ", JSON.stringify(strings[first]), JSON.stringify(found[first]), JSON.stringify(expected.ids[first]));
  if (firstText >= 0) console.log("  ", JSON.stringify(tokenizer.decode(expected.ids[firstText])), JSON.stringify(expected.texts[firstText]));
}
process.exitCode = failures > 0 ? 1 : 0;
