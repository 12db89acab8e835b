import type { CommandSpec } from "../src/config/command.ts";
import { integer, text } from "../src/config/fields.ts";
import { flagLayer, resolve } from "../src/config/resolve.ts";
import { ConfigError } from "../src/errors.ts";
import { compare } from "./lib/compare.ts";
import { modelField, runFields, wholeNumbers } from "./lib/flags.ts";
import { betweenLimits, limitColumns, medianLimits } from "./lib/limits.ts";
import { cacheBytes, meanContext } from "./lib/roofline.ts";
import { openRun } from "./lib/run.ts";
import { median } from "./lib/statistics.ts";

const usualContexts = [256, 1024, 2048, 4096];

const fields = {
  ...modelField,
  contexts: text({
    hint: "<n,n,...>", optional: true,
    help: `tokens of prompt and answer together; a row for each; left out, ${usualContexts.join(",")} as far as the model goes`,
  }),
  newTokens: integer({ default: 64, min: 2, help: "tokens of every answer, at the end of the context" }),
  batch: integer({ default: 1, min: 1, help: "sequences at the same time" }),
  ...runFields,
};

/** `bench context`: how the time of a decode step grows with the context. */
export const contextCommand: CommandSpec = {
  name: "context",
  summary: "growth of a decode step with the context",
  description: "Measures decoding at the end of contexts of several lengths. The growth over the first row is set beside the time that " +
    "reading the additional keys and values takes.",
  examples: ["npm run bench -- context --model SmolLM2-135M-Instruct --contexts 256,1024,2048,4096"],
  fields,
  run: async (flags) => {
    const config = resolve({ name: "context", fields }, [flagLayer(flags)]);
    const { shape, dtype, report } = await openRun("context", config);
    const { batch, newTokens } = config;
    const fits = (context: number) => context > newTokens && context <= shape.maxPositions;
    const contexts = config.contexts === undefined ? usualContexts.filter(fits) : wholeNumbers("contexts", config.contexts);
    if (contexts.length === 0 || !contexts.every(fits)) {
      throw new ConfigError(
        `--contexts: expected more than --new-tokens ${newTokens} and at most the model's context of ${shape.maxPositions}, ` +
          `got ${config.contexts ?? usualContexts}`,
      );
    }
    const measure = (context: number) => compare({ ...config, dtype, promptLength: context - newTokens, timesAddon: false }, []);
    let first: { milliseconds: number; bytes: number } | undefined;
    for await (const { each: context, result, limits } of betweenLimits(dtype, contexts, measure)) {
      const milliseconds = (1000 * batch) / median(result.decode);
      const bytes = cacheBytes(shape, batch * meanContext(context - newTokens, newTokens));
      first ??= { milliseconds, bytes };
      report.add({
        context, batch, newTokens,
        millisecondsPerStep: milliseconds,
        cacheBytes: bytes,
        growthMilliseconds: milliseconds - first.milliseconds,
        cacheReadMilliseconds: (1000 * (bytes - first.bytes)) / medianLimits(limits).bytesPerSecond,
        ...limitColumns(limits),
      });
    }
    report.end();
    return 0;
  },
};
