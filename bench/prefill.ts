import type { CommandSpec } from "../src/config/command.ts";
import { text } from "../src/config/fields.ts";
import { flagLayer, resolve } from "../src/config/resolve.ts";
import { compare, peerColumns } from "./lib/compare.ts";
import { batchesField, modelField, peerFields, runFields, wholeNumbers } from "./lib/flags.ts";
import { checkContext } from "./lib/generation-run.ts";
import { betweenLimits, limitColumns, medianLimits } from "./lib/limits.ts";
import { openPeers } from "./lib/peers.ts";
import { boundOf, prefillWork } from "./lib/roofline.ts";
import { openRun } from "./lib/run.ts";
import { median } from "./lib/statistics.ts";

const fields = {
  ...modelField,
  ...batchesField,
  promptLength: text({ default: "256", hint: "<n,n,...>", help: "tokens of every prompt; a row for each" }),
  ...peerFields,
  ...runFields,
};

/** `bench prefill`: prompt tokens per second, beside the limit of the machine. */
export const prefillCommand: CommandSpec = {
  name: "prefill",
  summary: "prompt tokens per second, beside the machine's limit",
  description: "Generates one token. The limit counts the layers for all tokens, the head for the last of each prompt.",
  examples: [
    "npm run bench -- prefill --model SmolLM2-135M-Instruct --batch 1,8 --prompt-length 64,256,1024",
    "npm run bench -- prefill --model SmolLM2-135M-Instruct --peers build/peers --peer-gguf smollm2-bf16.gguf",
  ],
  fields,
  run: async (flags) => {
    const config = resolve({ name: "prefill", fields }, [flagLayer(flags)]);
    const [batches, lengths] = [wholeNumbers("batch", config.batch), wholeNumbers("promptLength", config.promptLength)];
    const peers = openPeers(config, flags);
    const { shape, dtype, report } = await openRun("prefill", config);
    checkContext(shape, Math.max(...lengths), 1);
    const cases = lengths.flatMap((promptLength) => batches.map((batch) => ({ batch, promptLength })));
    const measure = (each: (typeof cases)[number]) => compare({ ...config, ...each, dtype, newTokens: 1, timesAddon: false }, peers);
    for await (const { each, result, limits } of betweenLimits(dtype, cases, measure)) {
      const prefillTokensPerSecond = median(result.prefill);
      const bound = boundOf(prefillWork(shape, Array<number>(each.batch).fill(each.promptLength)), medianLimits(limits));
      const limitTokensPerSecond = (each.batch * each.promptLength) / bound.seconds;
      report.add({
        ...each, prefillTokensPerSecond, limitTokensPerSecond,
        shareOfLimit: prefillTokensPerSecond / limitTokensPerSecond,
        boundBy: bound.boundBy,
        ...peerColumns(result, ["prefill"]),
        ...limitColumns(limits),
      });
    }
    report.end();
    return 0;
  },
};
