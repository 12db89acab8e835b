import { join } from "node:path";
import { formatDuration, table } from "../metrics/format.ts";
import type { MeanWithError } from "../ppo/evaluate.ts";
import type { AnswerPair, PolicyFigures } from "../ppo/train.ts";
import type { PipelineSummary } from "./train.ts";

/**
 * What to print after a run: a table of held-out figures, answers before and after, and how to chat with the result.
 *
 * @param lastStep folder of the last step
 */
export function pipelineReport(summary: PipelineSummary, lastStep: string): string {
  const { sft, reward, ppo } = summary;
  const rows: string[][] = [];
  if (sft) {
    const { perplexityBefore, perplexityAfter, seconds } = sft;
    rows.push(["SFT: perplexity of demonstrations", perplexityBefore.toFixed(2), perplexityAfter.toFixed(2), formatDuration(seconds)]);
  }
  if (reward) {
    const { accuracyBefore, accuracyAfter, seconds } = reward;
    rows.push(["Reward model: accuracy on pairs", percent(accuracyBefore), percent(accuracyAfter), formatDuration(seconds)]);
  }
  if (ppo) {
    const { before, after } = ppo;
    rows.push(
      ["PPO: reward", withError(before.reward), withError(after.reward), formatDuration(ppo.seconds)],
      ["PPO: KL to the SFT model, nats per answer", withError(before.kl), withError(after.kl), ""],
      ["PPO: answer length, tokens", before.responseLength.toFixed(1), after.responseLength.toFixed(1), ""],
      ["PPO: answers that end by themselves", percent(before.finished), percent(after.finished), ""],
      ["PPO: distinct-1, distinct-2", distincts(before), distincts(after), ""],
    );
  }
  const parts = [table(["held-out figure", "before", "after", "time"], rows)];
  if (ppo) {
    const { mean, standardError } = ppo.rewardDifference;
    parts.push(
      `Reward after minus before, paired over ${ppo.evalPrompts} held-out prompts: ${signed(mean)} +- ${standardError.toFixed(3)} ` +
        `(${(mean / standardError).toFixed(1)} standard errors)`,
      ...ppo.examples.map(example),
    );
  }
  const model = join(lastStep, "model");
  parts.push(`The model is in ${model}`, ...(sft || ppo ? [`Talk with it:  npm run tschat -- chat ${model}`] : []));
  return parts.join("\n\n");
}

function example({ prompt, before, after }: AnswerPair): string {
  return `  prompt  ${oneLine(prompt)}\n  before  ${oneLine(before)}\n  after   ${oneLine(after)}`;
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, " ").trim();
}

function withError({ mean, standardError }: MeanWithError): string {
  return `${mean.toFixed(3)} +- ${standardError.toFixed(3)}`;
}

function distincts({ distinct1, distinct2 }: PolicyFigures): string {
  return `${distinct1.toFixed(2)}, ${distinct2.toFixed(2)}`;
}

function signed(value: number): string {
  return `${value < 0 ? "-" : "+"}${Math.abs(value).toFixed(3)}`;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)}%`;
}
