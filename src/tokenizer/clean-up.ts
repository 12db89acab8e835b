const REPLACEMENTS = [
  [" .", "."],
  [" ?", "?"],
  [" !", "!"],
  [" ,", ","],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
] as const;

/**
 * Whether a tokenizer's texts are cleaned up: where the configuration says so, but not for BPE, whose spaces are the text's own
 * (as in transformers 5).
 */
export function cleansUp({ model }: Readonly<Record<string, unknown>>, config: Readonly<Record<string, unknown>>): boolean {
  const kind = typeof model === "object" && model !== null && "type" in model ? model.type : undefined;
  return config["clean_up_tokenization_spaces"] === true && kind !== "BPE";
}

/** Takes out the spaces that splitting into words has put before punctuation: `clean_up_tokenization` of transformers. */
export function cleanUp(text: string): string {
  return REPLACEMENTS.reduce((cleaned, [from, to]) => cleaned.replaceAll(from, to), text);
}
