import type { CommandSpec } from "../src/config/command.ts";
import { flagLayer, resolve } from "../src/config/resolve.ts";
import { CausalLM, HybridEngine } from "../src/index.ts";
import { modelField, runFields } from "./lib/flags.ts";
import { betweenLimits, limitColumns, medianLimits } from "./lib/limits.ts";
import { weightBytes } from "./lib/roofline.ts";
import { openRun } from "./lib/run.ts";
import { median, secondsOf } from "./lib/statistics.ts";

const fields = { ...modelField, ...runFields };

/** `bench switch`: what it costs to go from training to generation and back. */
export const switchCommand: CommandSpec = {
  name: "switch",
  summary: "cost of the switch between training and generation",
  description: "Enters generation and training in turn, the first entry into generation apart. What a switch leaves to the first request " +
    "shows in a request of one token just after it and once more. Beside all that: reading the weights once.",
  examples: ["npm run bench -- switch --model SmolLM2-135M-Instruct"],
  fields,
  run: async (flags) => {
    const config = resolve({ name: "switch", fields }, [flagLayer(flags)]);
    const { shape, dtype, report } = await openRun("switch", config);
    const model = await CausalLM.load(config.model, { dtype });
    const engine = new HybridEngine(model);
    const request = () => void engine.generate([[0]], { maxNewTokens: 1, eosTokenId: null });
    const turn = () => ({
      enterGenerate: secondsOf(() => engine.enterGenerate()), requestAfter: secondsOf(request), request: secondsOf(request),
      enterTrain: secondsOf(() => engine.enterTrain()),
    });
    const measure = async () => [turn(), ...Array.from({ length: config.repeats }, turn)] as const;
    for await (const { result: [first, ...later], limits } of betweenLimits(dtype, [model], measure)) {
      const middle = (phase: keyof typeof first) => 1000 * median(later.map((times) => times[phase]));
      report.add({
        enterGenerateMilliseconds: middle("enterGenerate"),
        enterTrainMilliseconds: middle("enterTrain"),
        firstEnterGenerateMilliseconds: 1000 * first.enterGenerate,
        requestAfterSwitchMilliseconds: middle("requestAfter"),
        requestMilliseconds: middle("request"),
        weightBytes: weightBytes(shape),
        weightReadMilliseconds: (1000 * weightBytes(shape)) / medianLimits(limits).bytesPerSecond,
        ...limitColumns(limits),
      });
    }
    report.end();
    return 0;
  },
};
