import Table from "cli-table3";

/** A time for people: `0.25 s`, `12.3 s`, `2m 05s`, `1h 02m`. */
export function formatDuration(seconds: number): string {
  if (!(seconds >= 0 && Number.isFinite(seconds))) return "?";
  if (seconds < 59.95) return `${seconds < 1 ? seconds.toFixed(2) : seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (part: number): string => String(part).padStart(2, "0");
  return hours > 0 ? `${hours}h ${two(minutes)}m` : `${minutes}m ${two(rest)}s`;
}

/** A number for people, with four digits: `0.1235`, `12.5`, `1,235`, `2e-5`. */
export function formatNumber(value: number): string {
  const size = Math.abs(value);
  if (Number.isInteger(value) || size >= 999.95) return Number.isFinite(value) ? Math.round(value).toLocaleString("en-US") : String(value);
  if (size < 1e-3) return value.toExponential(2).replace(/\.?0+e/, "e");
  return String(Number(value.toPrecision(4)));
}

/** A size for people, in decimal units: `512 B`, `1.2 MB`, `13.5 GB`. */
export function formatBytes(bytes: number): string {
  const power = Math.min(Math.max(Math.floor(Math.log10(bytes) / 3), 0), 4);
  return power === 0 ? `${Math.round(bytes)} B` : `${(bytes / 1000 ** power).toFixed(1)} ${"_kMGT"[power]}B`;
}

/** A camelCase name for people: `tokensPerSecond` is `tokens/s`, `learningRate` is `learning rate`. */
export function formatName(name: string): string {
  return name.replace(/PerSecond$/, "/s").replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

/** A table of text cells with a header line, as wide as its content. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const result = new Table({ head: [...header], style: { head: [], border: [], compact: true } });
  result.push(...rows.map((row) => [...row]));
  return result.toString();
}
