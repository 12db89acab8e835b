import type { Message } from "../tokenizer/message.ts";

/**
 * What becomes of a record that is too long: it is left out ("drop"), loses its beginning ("left") or its end ("right"), or
 * ends the command ("error").
 */
export type Truncation = "drop" | "left" | "right" | "error";

/**
 * The longest shortened prompt that `attempt` accepts, or rather what it gave for it; undefined if it accepts none.
 *
 * Text is cut, not tokens, so the chat template still prints everything around it. "left" takes away the oldest turns, up to the
 * next one of the user and never the system's, and when only the last user message is left, the beginning of its text. "right" takes
 * away the end of the last message's text. A message always keeps at least one character.
 *
 * @param prompt ends with the user's message
 * @param attempt gives undefined for a prompt that is still too long
 */
export async function shortenPrompt<T>(
  prompt: readonly Message[], side: "left" | "right", attempt: (prompt: readonly Message[]) => Promise<T | undefined>,
): Promise<T | undefined> {
  let shortest = prompt;
  if (side === "left") {
    for (const shorter of withoutOldestTurns(prompt)) {
      const result = await attempt(shorter);
      if (result !== undefined) return result;
      shortest = shorter;
    }
  }
  const last = shortest.at(-1);
  if (last === undefined) return undefined;
  return shortenText(last.content, side, (content) => attempt([...shortest.slice(0, -1), { ...last, content }]));
}

/** What `attempt` gives for the longest end ("left") or beginning ("right") of `text` that it accepts; undefined if it accepts none. */
export async function shortenText<T>(
  text: string, side: "left" | "right", attempt: (text: string) => Promise<T | undefined>,
): Promise<T | undefined> {
  const characters = Array.from(text);
  const kept = (count: number) => (side === "left" ? characters.slice(-count) : characters.slice(0, count)).join("");
  let best: T | undefined;
  for (let low = 1, high = characters.length - 1; low <= high;) {
    const count = (low + high) >> 1;
    const result = await attempt(kept(count));
    if (result === undefined) high = count - 1;
    else [best, low] = [result, count + 1];
  }
  return best;
}

/** The prompt without its oldest turns, one exchange less each time. */
function* withoutOldestTurns(prompt: readonly Message[]): Generator<readonly Message[]> {
  const begin = prompt.findIndex(({ role }) => role !== "system");
  for (let i = begin + 1; i < prompt.length; i++) {
    if (prompt[i]?.role === "user") yield [...prompt.slice(0, begin), ...prompt.slice(i)];
  }
}
