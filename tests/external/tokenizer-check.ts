// Compares the real tokenizers that tokenizer_fixtures.py wrote with `--full FOLDER`: node tests/external/tokenizer-check.ts FOLDER
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";

const folder = process.argv[2] ?? "";
const read = (...names: string[]): unknown => JSON.parse(readFileSync(join(folder, ...names), "utf8"));
const strings = read("strings.json") as string[];
for (const entry of readdirSync(folder, { withFileTypes: true })) {
  if (!entry.isDirectory()) continue;
  const expected = read(entry.name, "expected.json") as { ids: (number[] | null)[]; texts: (string | null)[] };
  const tokenizer = await Tokenizer.load(join(folder, entry.name));
  const ids = await tokenizer.encodeBatch(strings);
  const counted = expected.ids.filter((row) => row !== null).length;
  const otherIds = expected.ids.filter((row, i) => row !== null && JSON.stringify(ids[i]) !== JSON.stringify(row)).length;
  const otherTexts = expected.texts.filter((text, i) => text !== null && tokenizer.decode(expected.ids[i] ?? []) !== text).length;
  console.log(`${entry.name}: ${counted} strings, ${otherIds} with other ids, ${otherTexts} of ${expected.texts.length} with another text`);
  if (otherIds + otherTexts > 0) process.exitCode = 1;
}
