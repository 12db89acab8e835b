import { readFileSync } from "node:fs";
import { inspect } from "node:util";
import { runProgram } from "../config/command.ts";
import { chatCommand } from "./chat.ts";
import { dataPreviewCommand, dataValidateCommand } from "./data.ts";
import { downloadCommand } from "./download.ts";
import { describeFailure, epilogue } from "./exit-codes.ts";
import { exportCommand } from "./export.ts";
import { mergeCommand } from "./merge.ts";
import { ppoCommand } from "./ppo.ts";
import { quickstartCommand } from "./quickstart.ts";
import { rewardCommand } from "./reward.ts";
import { sftCommand } from "./sft.ts";
import { trainCommand } from "./train.ts";

/** All commands, in the order of the help text. */
export const commands = [
  quickstartCommand, trainCommand, sftCommand, rewardCommand, ppoCommand, dataPreviewCommand, dataValidateCommand, mergeCommand,
  exportCommand, chatCommand, downloadCommand,
];

/** Runs one command line (without `node` and the script). Prints an error and gives its exit code instead of throwing. */
export async function runCommandLine(argv: readonly string[]): Promise<number> {
  try {
    return await runProgram({
      name: "tschat",
      version: packageVersion(),
      description: "Train chat models with human feedback: SFT, reward model, PPO, and talk with the result.",
      commands,
      groups: { data: "look at data files and check them" },
      example: "tschat train --model SmolLM2-135M-Instruct.gguf --data preferences.jsonl --output runs/first",
      epilogue,
    }, argv);
  } catch (error) {
    const { message, exitCode } = describeFailure(error);
    process.stderr.write(`${process.env["TSCHAT_DEBUG"] === "1" ? inspect(error) : message}\n`);
    return exitCode;
  }
}

function packageVersion(): string {
  // src/cli and dist/cli lie equally deep.
  const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { version: string };
  return version;
}
