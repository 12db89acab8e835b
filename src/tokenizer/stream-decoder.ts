/** Turns tokens into text one at a time; a character whose bytes are not all there yet is held back. */
export interface StreamDecoder {
  /** The text that `token` completes; empty while a character is incomplete. */
  push(token: number): string;
  /** The text still held back, with U+FFFD for bytes that never became a character. */
  end(): string;
}

/**
 * A stream decoder over `decode`; all that it returns, joined, is `decode` of all tokens.
 *
 * Two offsets into the tokens (as text-generation-inference has them): text before `readOffset` has been given out, and
 * decoding starts at `prefixOffset`, one step earlier, since some decoders treat the first token differently (a leading space).
 */
export function streamDecoder(decode: (tokens: readonly number[]) => string): StreamDecoder {
  let tokens: number[] = [];
  let readOffset = 0;
  const pending = () => decode(tokens).slice(decode(tokens.slice(0, readOffset)).length);
  return {
    push(token) {
      tokens.push(token);
      const text = pending();
      if (text === "" || text.endsWith("\uFFFD")) return "";
      tokens = tokens.slice(readOffset);
      readOffset = tokens.length;
      return text;
    },
    end() {
      const text = pending();
      tokens = [];
      readOffset = 0;
      return text;
    },
  };
}
