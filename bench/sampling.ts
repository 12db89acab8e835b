import type { CommandSpec } from "../src/config/command.ts";
import { group, integer, path } from "../src/config/fields.ts";
import { flagLayer, resolve } from "../src/config/resolve.ts";
import { checkSampling, sample, type SamplingOptions } from "../src/engine/sampling.ts";
import { ConfigError } from "../src/errors.ts";
import { resolveDtype } from "../src/model/dtype.ts";
import { Generator, rand, randn } from "../src/tensor/create.ts";
import { setNumThreads } from "../src/tensor/system.ts";
import { tidy } from "../src/tensor/tidy.ts";
import { batchesField, runFields, wholeNumbers } from "./lib/flags.ts";
import { readSeconds } from "./lib/limits.ts";
import { Report, type Row } from "./lib/report.ts";
import { readShape } from "./lib/roofline.ts";
import { median, secondsPerCall } from "./lib/statistics.ts";

/** Size of SmolLM2's vocabulary. */
const DEFAULT_VOCAB = 49_152;

const settings: Readonly<Record<string, SamplingOptions>> = {
  "greedy": { temperature: 0 },
  "temperature 1": { temperature: 1 },
  "top-k 50": { temperature: 1, topK: 50 },
  "top-p 0.95": { temperature: 1, topP: 0.95 },
  "top-k 50, top-p 0.95": { temperature: 1, topK: 50, topP: 0.95 },
};

const fields = {
  ...group("Logits:", {
    vocab: integer({ min: 2, optional: true, help: `size of the vocabulary; ${DEFAULT_VOCAB} when neither it nor --model is given` }),
    model: path({ hint: "<dir|file.gguf>", optional: true, help: "model whose vocabulary's size is taken" }),
  }),
  ...batchesField,
  ...runFields,
};

/** `bench sampling`: tokens drawn per second. */
export const samplingCommand: CommandSpec = {
  name: "sampling",
  summary: "tokens drawn per second, by setting",
  description: "Draws from normally distributed random logits. The share is that of reading the logits once; they are read over and " +
    "over, so small ones come from a cache, in this measurement as when the head has just written them.",
  examples: ["npm run bench -- sampling --batch 1,32", "npm run bench -- sampling --vocab 128256 --batch 8 --json"],
  fields,
  run: async (flags) => {
    const config = resolve({ name: "sampling", fields }, [flagLayer(flags)]);
    if (config.vocab !== undefined && config.model !== undefined) {
      throw new ConfigError("--vocab: not beside --model, which has a vocabulary; give one of them");
    }
    const batches = wholeNumbers("batch", config.batch);
    setNumThreads(config.threads);
    const dtype = resolveDtype(config);
    const vocab = config.model === undefined ? (config.vocab ?? DEFAULT_VOCAB) : (await readShape(config.model, dtype)).vocabSize;
    const report = new Report({ bench: "sampling", vocab, dtype, threads: config.threads }, config.json);
    for (const batch of batches) for (const row of measure({ batch, vocab, dtype, repeats: config.repeats })) report.add(row);
    report.end();
    return 0;
  },
};

interface Logits {
  batch: number;
  vocab: number;
  dtype: "float32" | "bfloat16";
  repeats: number;
}

function measure({ batch, vocab, dtype, repeats }: Logits): Row[] {
  const limit = readSeconds(batch * vocab * (dtype === "float32" ? 4 : 2));
  return tidy(() => {
    const generator = new Generator(1);
    // A standard deviation of 3 makes distributions about as sharp as those of language models.
    const logits = randn([batch, vocab], generator).mul(3).to(dtype);
    const uniforms = rand([batch], generator).numbers();
    const excluded = uniforms.map(() => []);
    return Object.entries(settings).map(([setting, options]) => {
      const ofRows = uniforms.map(() => checkSampling(options));
      const draw = () => void tidy(() => void sample(logits, ofRows, uniforms, excluded));
      const seconds = median(Array.from({ length: repeats }, () => secondsPerCall(draw)));
      return {
        batch, setting, tokensPerSecond: batch / seconds, microsecondsPerCall: 1e6 * seconds,
        readMicroseconds: 1e6 * limit, shareOfReading: limit / seconds,
      };
    });
  });
}
