import { type Stage, stages } from "./ppo-run.ts";

/** A bar: who, and the seconds of its stages. */
export interface StageBar {
  name: string;
  seconds: Readonly<Record<Stage, number>>;
}

// Of middle lightness, so that they stand out from white and from dark backgrounds; told apart by colour-blind eyes (Okabe and Ito).
const colours: Readonly<Record<Stage, string>> = { generate: "#0082c8", score: "#e69f00", train: "#1fa67a", switch: "#cc79a7" };
const TEXT = "#808080";

const WIDTH = 760, LEFT = 150, RIGHT = 90, TOP = 78, BAR = 34, STEP = 52, BOTTOM = 40;
/** Narrower parts have no room for their number. */
const LEAST_LABELLED = 24;

/** Bars of stages one behind the other, on one scale of seconds: a whole SVG document for light and dark backgrounds. */
export function stageChart(bars: readonly StageBar[], title: string): string {
  const totals = bars.map(({ seconds }) => stages.reduce((sum, stage) => sum + seconds[stage], 0));
  const longest = Math.max(...totals);
  const scale = (WIDTH - LEFT - RIGHT) / longest;
  const bottom = TOP + bars.length * STEP;
  const lines = [
    text(16, 28, title, { size: 17, weight: 600 }),
    ...legend(bars[0]),
    ...ticks(longest).flatMap((seconds) => {
      const x = round(LEFT + seconds * scale);
      return [
        `<line x1="${x}" y1="${TOP - 8}" x2="${x}" y2="${bottom - 8}" stroke="${TEXT}" stroke-opacity="0.35"/>`,
        text(x, bottom + 10, `${Number(seconds.toPrecision(4))} s`, { anchor: "middle", size: 13 }),
      ];
    }),
    ...bars.flatMap((bar, i) => barOf(bar, TOP + i * STEP, scale, totals[i] ?? 0)),
  ];
  const size = `width="${WIDTH}" height="${bottom + BOTTOM}" viewBox="0 0 ${WIDTH} ${bottom + BOTTOM}"`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} font-family="system-ui, sans-serif" role="img">\n` +
    `<title>${escaped(title)}</title>\n${lines.join("\n")}\n</svg>\n`;
}

function barOf({ name, seconds }: StageBar, y: number, scale: number, total: number): string[] {
  const parts: string[] = [];
  let x = LEFT;
  for (const stage of stages) {
    const width = seconds[stage] * scale;
    parts.push(
      `<rect x="${round(x)}" y="${y}" width="${round(width)}" height="${BAR}" fill="${colours[stage]}">` +
        `<title>${stage}: ${shown(seconds[stage])} s</title></rect>`,
    );
    const middle = x + width / 2;
    if (width >= LEAST_LABELLED) parts.push(text(middle, y + BAR / 2 + 5, shown(seconds[stage]), { anchor: "middle", fill: "#000000" }));
    x += width;
  }
  const label = text(LEFT - 12, y + BAR / 2 + 5, name, { anchor: "end", size: 15 });
  return [label, ...parts, text(x + 8, y + BAR / 2 + 5, `${shown(total)} s`)];
}

/** Names the stages; the time of the switch between them, too short to see, is written out for the first bar. */
function legend(first: StageBar | undefined): string[] {
  const parts: string[] = [];
  let x = LEFT;
  for (const stage of stages) {
    const label = stage === "switch" && first ? `switch (${first.name}: ${shown(1000 * first.seconds.switch)} ms)` : stage;
    parts.push(`<rect x="${x}" y="45" width="13" height="13" fill="${colours[stage]}"/>`, text(x + 19, 56, label, { size: 14 }));
    x += 46 + 8 * label.length;
  }
  return parts;
}

/** Multiples of 1, 2 or 5 times a power of ten: 0 and 3 to 7 more. */
function ticks(longest: number): number[] {
  const power = 10 ** Math.floor(Math.log10(longest / 3));
  const step = [5, 2, 1].map((factor) => factor * power).find((each) => each * 3 <= longest) ?? power;
  return Array.from({ length: Math.floor(longest / step) + 1 }, (_, i) => i * step);
}

interface TextStyle {
  anchor?: "middle" | "end";
  size?: number;
  weight?: number;
  fill?: string;
}

function text(x: number, y: number, content: string, { anchor, size = 14, weight, fill = TEXT }: TextStyle = {}): string {
  const optional = `${anchor ? ` text-anchor="${anchor}"` : ""}${weight ? ` font-weight="${weight}"` : ""}`;
  return `<text x="${round(x)}" y="${round(y)}" font-size="${size}" fill="${fill}"${optional}>${escaped(content)}</text>`;
}

/** Two digits of small numbers, three of large ones. */
function shown(seconds: number): string {
  return seconds >= 10 ? seconds.toFixed(1) : String(Number(seconds.toPrecision(seconds >= 1 ? 3 : 2)));
}

function round(value: number): number {
  return Number(value.toFixed(2));
}

function escaped(content: string): string {
  return content.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}
