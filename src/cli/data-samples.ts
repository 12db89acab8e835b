import { type DataRecord, recordForStep } from "../data/records.ts";
import { encodeDemonstrations, encodePreferences, encodePrompts } from "../data/encode.ts";
import type { StepName } from "../config/step.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { type Paint, type Span, visible, wrap } from "./terminal-text.ts";

/** How samples are printed. */
export interface SampleStyle {
  readonly columns: number;
  readonly paint: Paint;
  /** Text that is learned is coloured; without colours it stands between `{+` and `+}`. */
  readonly showsColor: boolean;
  /** Colour of what is learned; green if not given. */
  readonly learnedIn?: "green" | "red";
}

const INDENT = "  ";

/** The lines that show a record as a step sees it: its tokens as text, those that are learned marked. */
export async function tokenSample(record: DataRecord, step: StepName, tokenizer: Tokenizer, style: SampleStyle): Promise<string[]> {
  const title = (text: string): string[] => [style.paint("bold", `${record.origin.path}:${record.origin.line}  ${text}`)];
  const limits = { maxSeqLen: Infinity, maxPromptLen: Infinity };
  switch (step) {
    case "sft": {
      const { samples: [sample] } = await encodeDemonstrations([recordForStep(record, step)], tokenizer, { ...limits, lossOn: "answer" });
      if (sample === undefined) return [];
      const numLearned = sample.lossMask.filter(Boolean).length;
      const text = tokenLines(sample.tokens, sample.lossMask, tokenizer, style);
      return [...title(`${sample.tokens.length} tokens, ${numLearned} learned`), ...text];
    }
    case "reward": {
      const { samples: [pair] } = await encodePreferences([recordForStep(record, step)], tokenizer, limits);
      if (pair === undefined) return [];
      const answer = (tokens: readonly number[], name: string, learnedIn: "green" | "red"): string[] => {
        const isAnswer = tokens.map((_, i) => i >= pair.promptLength);
        const label = `-- ${name}, ${tokens.length - pair.promptLength} tokens`;
        const text = tokenLines(tokens, isAnswer, tokenizer, { ...style, learnedIn }, pair.promptLength);
        return [`${INDENT}${style.paint("dim", label)}`, ...text];
      };
      return [
        ...title(`${pair.promptLength} tokens of prompt`),
        ...tokenLines(pair.chosen.slice(0, pair.promptLength), [], tokenizer, style),
        ...answer(pair.chosen, "chosen", "green"), ...answer(pair.rejected, "rejected", "red"),
      ];
    }
    case "ppo": {
      const { samples: [sample] } = await encodePrompts([recordForStep(record, step)], tokenizer, limits);
      if (sample === undefined) return [];
      return [...title(`${sample.tokens.length} tokens of prompt`), ...tokenLines(sample.tokens, [], tokenizer, style)];
    }
    default: return step satisfies never;
  }
}

/** The lines that show a record's texts, where no tokenizer is at hand. */
export function textSample(record: DataRecord, style: SampleStyle): string[] {
  const { paint, columns } = style;
  const labelled = (label: string, text: string, color?: "green" | "red"): string[] => {
    const spans = [{ text: visible(text, true), paint: (line: string) => (color === undefined ? line : paint(color, line)) }];
    const [first = "", ...rest] = wrap(spans, columns - 12);
    return [`${INDENT}${paint("dim", label.padEnd(10))}${first}`, ...rest.map((line) => `${" ".repeat(12)}${line}`)];
  };
  const prompt = typeof record.prompt === "string"
    ? (record.prompt === "" ? [] : labelled("text", record.prompt))
    : record.prompt.flatMap(({ role, content }) => labelled(role, content));
  const answers = record.kind === "preference" ? { chosen: record.chosen, rejected: record.rejected }
    : record.kind === "demonstration" ? { [record.prompt === "" ? "text" : "assistant"]: record.answer } : {};
  return [
    paint("bold", `${record.origin.path}:${record.origin.line}  ${record.kind}`), ...prompt,
    ...Object.entries(answers).flatMap(([label, text]) => labelled(label, text, label === "rejected" ? "red" : "green")),
  ];
}

/** Tokens from `start` on as text; where `isLearned` is true it is marked. */
function tokenLines(
  tokens: readonly number[], isLearned: readonly boolean[], tokenizer: Tokenizer, style: SampleStyle, start = 0,
): string[] {
  const { columns, paint, showsColor, learnedIn = "green" } = style;
  const spans: Span[] = [];
  // Decoded up to each boundary rather than run by run: some decoders drop the blank before the first word.
  let decoded = tokenizer.decode(tokens.slice(0, start), { skipSpecialTokens: false });
  for (let i = start; i < tokens.length;) {
    const learned = isLearned[i] === true;
    let end = i;
    while (end < tokens.length && (isLearned[end] === true) === learned) end++;
    const text = tokenizer.decode(tokens.slice(0, end), { skipSpecialTokens: false });
    const piece = visible(text.slice(decoded.length), true);
    spans.push(learned && !showsColor
      ? { text: `{+${piece}+}`, paint: (line) => line }
      : { text: piece, paint: (line) => paint(learned ? learnedIn : "dim", line) });
    [i, decoded] = [end, text];
  }
  return wrap(spans, columns - INDENT.length).map((line) => `${INDENT}${line}`);
}
