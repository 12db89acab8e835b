import { inspect } from "node:util";
import { describeFailure } from "../src/cli/exit-codes.ts";
import { runProgram } from "../src/config/command.ts";
import { contextCommand } from "./context.ts";
import { continuousCommand } from "./continuous.ts";
import { decodeCommand } from "./decode.ts";
import { memoryCommand } from "./memory.ts";
import { ppoIterationCommand } from "./ppo-iteration.ts";
import { prefillCommand } from "./prefill.ts";
import { samplingCommand } from "./sampling.ts";
import { switchCommand } from "./switch.ts";
import { trainStepCommand } from "./train-step.ts";

/** All benchmarks, in the order of the help text. */
export const commands = [
  decodeCommand, prefillCommand, samplingCommand, switchCommand, contextCommand, continuousCommand,
  trainStepCommand, ppoIterationCommand, memoryCommand,
];

/** Runs one command line (without `node` and the script). Prints an error and gives its exit code instead of throwing. */
export async function runBench(argv: readonly string[]): Promise<number> {
  try {
    return await runProgram({
      name: "bench",
      version: "1",
      description: "Measure generation and training: speed beside the limits of this machine, measured in the same run, and beside other " +
        "engines.",
      commands,
      example: "npm run bench -- decode --model SmolLM2-135M-Instruct --batch 1,8,32",
      epilogue: "Exit codes:\n  0    measured\n  1    failed; the message says why\n  2    the flags or files cannot be run",
    }, argv);
  } catch (error) {
    const { message, exitCode } = describeFailure(error);
    process.stderr.write(`${process.env["TSCHAT_DEBUG"] === "1" ? inspect(error) : message}\n`);
    return exitCode;
  }
}
