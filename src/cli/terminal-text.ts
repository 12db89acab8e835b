import { styleText } from "node:util";

/** Where a command prints: standard output, or what a test puts in its place. */
export type TextOutput = NodeJS.WritableStream & {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly hasColors?: () => boolean;
};

/** Adds a colour, where the output shows colours. */
export type Paint = (style: "green" | "red" | "yellow" | "dim" | "bold", text: string) => string;

/** Columns of the output; 80 where it is no terminal. */
export function columnsOf({ isTTY, columns }: TextOutput): number {
  return isTTY === true && columns !== undefined && columns > 0 ? Math.max(40, columns) : 80;
}

/** Whether the output shows colours: a terminal that can, unless NO_COLOR is set. */
export function showsColor(output: TextOutput): boolean {
  return output.isTTY === true && output.hasColors?.() === true;
}

/** The painter for an output. */
export function painter(output: TextOutput): Paint {
  return showsColor(output) ? (style, text) => styleText(style, text, { validateStream: false }) : (_, text) => text;
}

const graphemes = new Intl.Segmenter(undefined, { granularity: "grapheme" });
// East Asian Wide and Fullwidth (Unicode TR11), and emoji.
const wide = new RegExp(
  "^(?:\\p{Emoji_Presentation}|.\\ufe0f" +
  "|[\\u1100-\\u115f\\u2e80-\\u303e\\u3041-\\ua4cf\\uac00-\\ud7a3\\uf900-\\ufaff\\ufe30-\\ufe6f\\uff01-\\uff60\\uffe0-\\uffe6]" +
  "|[\\u{20000}-\\u{3fffd}])", "u",
);

/** Columns that `text` takes on a terminal; it holds no control characters. */
export function widthOf(text: string): number {
  let width = 0;
  for (const { segment } of graphemes.segment(text)) width += wide.test(segment) ? 2 : /^\p{M}+$/u.test(segment) ? 0 : 1;
  return width;
}

/** `text` with its control characters written out: a data file must not move the cursor. Line breaks and tabs stay if asked for. */
export function visible(text: string, keepsLines = false): string {
  return text.replace(/[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu, (character) => {
    if (keepsLines && character === "\n") return character;
    if (character === "\n") return "\\n";
    if (character === "\t") return keepsLines ? "    " : "\\t";
    const code = character.charCodeAt(0);
    return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16)}`;
  });
}

/** `text` cut to `width` columns, with "..." where something is missing. */
export function clip(text: string, width: number): string {
  if (widthOf(text) <= width) return text;
  let kept = "", used = 3;
  for (const { segment } of graphemes.segment(text)) {
    used += widthOf(segment);
    if (used > width) break;
    kept += segment;
  }
  return `${kept}...`;
}

/** A stretch of text with one look. */
export interface Span {
  readonly text: string;
  /** Finishes a line of the stretch: adds its colour. */
  readonly paint: (line: string) => string;
}

/** The lines that `spans` fill, at most `width` columns each, broken between words where possible. */
export function wrap(spans: readonly Span[], width: number): string[] {
  const lines: string[] = [];
  let line = "", used = 0, isContinued = false;
  const next = (continues: boolean): void => {
    lines.push(line);
    [line, used, isContinued] = ["", 0, continues];
  };
  for (const { text, paint } of spans) {
    let run = "";
    const flush = (): void => {
      if (run !== "") line += paint(run);
      run = "";
    };
    for (const word of text.split(/(\n)|(?<=\s)(?=\S)/)) {
      if (word === undefined || word === "") continue;
      if (word === "\n") {
        flush();
        next(false);
        continue;
      }
      if (used > 0 && used + widthOf(word.trimEnd()) > width) {
        flush();
        next(true);
      }
      for (const { segment } of graphemes.segment(word)) {
        const size = widthOf(segment);
        if (used + size > width) {
          flush();
          next(true);
        }
        if (isContinued && used === 0 && segment === " ") continue; // the blank between two words was the break
        run += segment;
        used += size;
      }
    }
    flush();
  }
  if (line !== "") lines.push(line);
  return lines;
}
