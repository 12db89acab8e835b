import { expect, test } from "vitest";
import { type DataSource, formatOf } from "../../../src/data/sources/source.ts";

// Encoded data are kept by this name: two sources with the same bytes that are read in different ways must differ.
test.each<[DataSource, string | undefined]>([
  [{ path: "a.jsonl" }, undefined],
  [{ path: "/sets/openai/gsm8k" }, "openai/gsm8k"],
  [{ path: "gsm8k:main/test" }, "openai/gsm8k"],
  [{ path: "a.jsonl", format: "gsm8k" }, "gsm8k"],
  [{ path: "Dahoas/rm-static", format: "parity" }, "parity:Dahoas/rm-static"],
  [{ path: "a.jsonl", format: "parity:shp" }, "parity:shp"],
  [{ path: "openai/gsm8k", fields: { prompt: "question" } }, undefined],
])("%j has the format %s", (source, format) => {
  expect(formatOf(source)).toBe(format);
});
