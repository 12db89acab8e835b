const MEGABYTE = 1e6;
const TERMINAL_INTERVAL_MS = 100;
const PLAIN_INTERVAL_MS = 5000;

/**
 * Prints one line on the state of the set-up. It goes to stderr, so that a task's own output can be piped.
 *
 * @param {string} text
 */
export function say(text) {
  process.stderr.write(`[tschat] ${text}\n`);
}

/**
 * Shows how far a part has come: one line that is rewritten on a terminal, a line every few seconds in a log.
 *
 * @param {string} label
 * @param {(done: number) => string} format
 */
function startLine(label, format) {
  const isTerminal = process.stderr.isTTY === true;
  const interval = isTerminal ? TERMINAL_INTERVAL_MS : PLAIN_INTERVAL_MS;
  let shownAt = Date.now();
  let hasEnded = false;
  say(label);
  return {
    /** @param {number} done */
    update(done) {
      if (hasEnded || Date.now() - shownAt < interval) return;
      shownAt = Date.now();
      if (isTerminal) process.stderr.write(`\r[tschat] ${label}: ${format(done)}\x1b[K`);
      else say(`${label}: ${format(done)}`);
    },
    end() {
      hasEnded = true;
      if (isTerminal) process.stderr.write("\r\x1b[K");
    },
  };
}

/**
 * Progress in bytes out of `totalBytes`.
 *
 * @param {string} label
 * @param {number} totalBytes
 */
export function startBytes(label, totalBytes) {
  return startLine(label, (done) => {
    const percent = totalBytes === 0 ? 100 : Math.min(100, Math.floor((100 * done) / totalBytes));
    return `${Math.round(done / MEGABYTE)} of ${Math.round(totalBytes / MEGABYTE)} MB (${percent}%)`;
  });
}
