import { AddedToken as NativeAddedToken, type Tokenizer as NativeTokenizer } from "tokenizers";
import { CheckpointError } from "../errors.ts";
import type { AddedToken, TokenWithId } from "./tokenizer-json.ts";
import { contentOf } from "./vocabulary-files.ts";

/**
 * The tokens that `tokenizer.json` lists as added.
 *
 * @throws {CheckpointError} for a malformed list, or an entry that the library gives another id than the file
 */
export function listedTokens(native: NativeTokenizer, json: Readonly<Record<string, unknown>>, source: string): AddedToken[] {
  const listed = (json["added_tokens"] ?? []) as Partial<AddedToken>[];
  return listed.map((entry) => {
    const token = completed(entry, entry.id, source);
    checkId(native, token, "tokenizer.json", source);
    return token;
  });
}

/**
 * Adds the tokens of `tokenizer_config.json` that the tokenizer does not have: `added_tokens_decoder`, in the order of the ids, then
 * `additional_special_tokens`. One that is there already keeps its flags, and becomes special if the configuration says so.
 *
 * @throws {CheckpointError} for an id that is neither the vocabulary's nor the next free one
 */
export function addConfiguredTokens(
  native: NativeTokenizer,
  listed: readonly AddedToken[],
  config: Readonly<Record<string, unknown>>,
  source: string,
): AddedToken[] {
  const tokens = new Map(listed.map((token) => [token.content, token]));
  const configured = (config["added_tokens_decoder"] ?? {}) as Record<string, unknown>;
  const withId = Object.entries(configured).map(([id, entry]) => completed(entry as Partial<AddedToken>, Number(id), source));
  const extra = [config["additional_special_tokens"], config["extra_special_tokens"]].flatMap((value) =>
    typeof value === "object" && value !== null ? Object.values(value) : [],
  );
  const special = extra.map((entry) => completed({ special: true, ...asEntry(entry) }, undefined, source));
  for (const token of [...withId.sort((a, b) => a.id - b.id), ...special]) {
    const known = tokens.get(token.content);
    if (known === undefined) addNatively(native, token);
    const id = native.tokenToId(token.content) ?? -1;
    if (token.id >= 0) checkId(native, token, "tokenizer_config.json", source);
    tokens.set(token.content, { ...(known ?? token), id, special: (known?.special ?? false) || token.special });
  }
  return [...tokens.values()];
}

/** `tokens` with those that have a role: they are special, as for transformers, whether a file lists them or not. */
export function withRoles(native: NativeTokenizer, tokens: readonly AddedToken[], roles: readonly TokenWithId[]): AddedToken[] {
  const byId = new Map(tokens.map((token) => [token.id, token]));
  for (const { id, content } of roles) {
    const known = byId.get(id);
    const token = known ?? { id, content, special: true, lstrip: false, rstrip: false, single_word: false, normalized: false };
    if (known === undefined) addNatively(native, token);
    if (!known?.special) byId.set(id, { ...token, special: true });
  }
  return [...byId.values()];
}

function addNatively(native: NativeTokenizer, { content, special, lstrip, rstrip, single_word, normalized }: AddedToken): void {
  const options = { singleWord: single_word, leftStrip: lstrip, rightStrip: rstrip, normalized };
  native.addAddedTokens([new NativeAddedToken(content, special, options)]);
}

function asEntry(entry: unknown): Partial<AddedToken> {
  const content = contentOf(entry);
  return typeof entry === "object" && entry !== null ? (entry as Partial<AddedToken>) : content === undefined ? {} : { content };
}

function completed(entry: Partial<AddedToken>, id: number | undefined, source: string): AddedToken {
  const content = contentOf(entry);
  if (content === undefined || content === "") {
    throw new CheckpointError(`${source}: an added token has no text: found ${JSON.stringify(entry)}, expected an object with "content"`);
  }
  const { special = false, lstrip = false, rstrip = false, single_word = false } = entry;
  return { id: id ?? -1, content, single_word, lstrip, rstrip, normalized: entry.normalized ?? !special, special };
}

function checkId(native: NativeTokenizer, { id, content }: TokenWithId, file: string, source: string): void {
  const actual = native.tokenToId(content);
  if (actual === id) return;
  throw new CheckpointError(
    `${source}: ${file} says that ${JSON.stringify(content)} is token ${id}, but it is ${actual ?? "no token"}: the ids of added tokens ` +
      "must be those of the vocabulary or follow it without a gap; take all files of the tokenizer from the same checkpoint",
  );
}
