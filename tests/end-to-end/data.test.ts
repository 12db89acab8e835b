import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { temporaryFolder } from "../temporary-folder.ts";
import { pairs, tinyModel, tschat } from "./cli.ts";

test("data preview and validate take the settings of a training run, and end with what they found", async () => {
  const folder = temporaryFolder(), model = tinyModel(folder);
  writeFileSync(join(folder, "qa.csv"), ["question,answer", ...pairs.map((_, i) => `"what is ${i}?","it is, ${i}"`)].join("\n"));
  writeFileSync(join(folder, "train.yaml"), `
model: ${model}
data:
  - path: qa.csv
    fields: { prompt: question, completion: answer }
output: runs/none
sft: { maxSeqLen: 200 }
`);
  const flags = ["--config", "train.yaml", "--step", "sft", "--limit", "1", "--eval-size", "2"];
  const preview = await tschat(["data", "preview", ...flags], { cwd: folder });
  expect(preview).toMatchObject({ code: 0, err: "" });
  expect(preview.out).toContain("it is, 0");
  expect(preview.out).toContain("--max-seq-len 200");
  const good = await tschat(["data", "validate", "--config", "train.yaml"], { cwd: folder });
  expect(good.code).toBe(0);
  writeFileSync(join(folder, "qa.csv"), 'question,answer\n"what is it?",\n');
  const bad = await tschat(["data", "validate", "--config", "train.yaml"], { cwd: folder });
  expect(bad.code).toBe(1);
  expect(bad.out).toMatch(/qa\.csv:2.*answer/);
});
