import type { Tokenizer as NativeTokenizer } from "tokenizers";
import { CheckpointError } from "../errors.ts";

/** A special token with a role. */
export interface RoleToken {
  id: number;
  content: string;
}

/**
 * The token that `config` names as `key`, by text (`eos_token`: a string or an object with `content`) or by number
 * (`eos_token_id`: a list means its first entry); undefined where it names none.
 *
 * @throws {CheckpointError} for a token that the vocabulary does not have
 */
export function roleToken(
  native: NativeTokenizer,
  config: Readonly<Record<string, unknown>>,
  key: string,
  source: string,
): RoleToken | undefined {
  const named = config[key];
  const content = typeof named === "object" && named !== null ? (named as { content?: unknown }).content : named;
  if (typeof content === "string") {
    const id = native.tokenToId(content);
    if (id !== null) return { id, content };
    const found = JSON.stringify(content);
    throw new CheckpointError(`${source}: ${key} is ${found}, which is not in the vocabulary; correct tokenizer_config.json`);
  }
  const numbers: unknown = config[`${key}_id`];
  const id: unknown = Array.isArray(numbers) ? numbers[0] : numbers;
  // Some configurations say -1 for "none".
  if (typeof id !== "number" || id < 0) return undefined;
  const text = native.idToToken(id);
  if (text !== null) return { id, content: text };
  throw new CheckpointError(`${source}: ${key}_id is ${id}, which is not in the vocabulary; correct generation_config.json or config.json`);
}

/**
 * The token that fills rows of a batch. It never is an end token: a model that is trained with its end token as
 * padding does not learn to stop. In this order, the first that is neither `eos` nor the end of turn:
 *
 * 1. the configured `pad` token
 * 2. the special token of lowest id with "pad" in its text (Llama 3's `<|finetune_right_pad_id|>`)
 * 3. `unk`
 * 4. `bos`
 * 5. the special token of lowest id
 * 6. `lastOrdinary`: GPT-2 has no special token but its end; what a reward model is read at is never this one
 */
export function choosePadToken(
  roles: { pad: RoleToken | undefined; unk: RoleToken | undefined; bos: RoleToken | undefined; eos: RoleToken },
  endOfTurn: string,
  specialTokens: readonly RoleToken[],
  lastOrdinary: () => RoleToken,
): RoleToken {
  const byId = [...specialTokens].sort((a, b) => a.id - b.id);
  const padLike = byId.filter((token) => /pad/i.test(token.content));
  const candidates = [roles.pad, ...padLike, roles.unk, roles.bos, ...byId];
  const chosen = candidates.find((token) => token !== undefined && token.content !== endOfTurn && token.id !== roles.eos.id);
  return chosen ?? lastOrdinary();
}

/** The token of highest id that is neither special nor without text. */
export function lastOrdinaryToken(native: NativeTokenizer, specialIds: ReadonlySet<number>): RoleToken {
  for (let id = native.getVocabSize(true) - 1; id >= 0; id--) {
    const content = specialIds.has(id) ? null : native.idToToken(id);
    if (content !== null) return { id, content };
  }
  throw new Error("internal: a tokenizer with special tokens only");
}
