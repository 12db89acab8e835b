import { type Decoder, Tokenizer as NativeTokenizer } from "tokenizers";
import { CheckpointError, ConfigError } from "../errors.ts";
import { resolveModel } from "../hub/resolve.ts";
import { ChatTemplate, type Piece } from "./chat-template.ts";
import { readGgufTokenizer } from "./gguf-tokenizer.ts";
import type { Message } from "./message.ts";
import { parseJsonObject, readTokenizerFolder, type TokenizerParts, writeTokenizerFolder } from "./parts.ts";
import { type AddedToken, choosePadToken, type RoleToken, roleToken } from "./special-tokens.ts";
import { type StreamDecoder, streamDecoder } from "./stream-decoder.ts";
import { transcriptTemplate } from "./templates.ts";

// The library's threads and libtorch's would compete for the same cores.
process.env["TOKENIZERS_PARALLELISM"] ??= "false";

/** A conversation as token ids. */
export interface EncodedConversation {
  tokens: number[];
  /** [seq] true on the tokens of the assistant's contents and on the end-of-turn token after each. */
  assistantMask: boolean[];
}

/** Token rows of one length. */
export interface PaddedTokens {
  /** [batch, seq] */
  tokens: number[][];
  /** [batch, seq] 1 on tokens, 0 on padding. */
  attentionMask: number[][];
}

type Side = "left" | "right";

interface TokenizerState {
  native: NativeTokenizer;
  chat: ChatTemplate;
  parts: TokenizerParts;
  bos: RoleToken | undefined;
  eos: RoleToken;
  pad: RoleToken;
  unk: RoleToken | undefined;
  specialIds: ReadonlySet<number>;
  prependsSpace: boolean;
}

/**
 * Text and conversations to token ids and back, for one checkpoint. The work is done by Hugging Face's `tokenizers`.
 *
 * Conversations are encoded piece by piece: each prompt by itself and each answer by itself, so that what a model sees
 * when it generates (a prompt, then tokens that it chose) is what it was trained on; encoding the whole text
 * at once could merge the last character of a prompt with the first of an answer.
 */
export class Tokenizer {
  readonly bosTokenId: number | undefined;
  readonly eosTokenId: number;
  /** Fills rows in `pad`; never an end token (see `choosePadToken` for the rule). */
  readonly padTokenId: number;
  /** The token that the template puts after an assistant's content; generation of an answer stops after it. */
  readonly endOfTurnTokenId: number;
  readonly paddingSide: Side;
  /** Jinja text: the checkpoint's own template, or the built-in `Human: ... Assistant:`. */
  readonly chatTemplate: string;
  /** Number of entries of the vocabulary, added tokens included; a model's embedding may have more rows. */
  readonly vocabSize: number;
  readonly #native: NativeTokenizer;
  readonly #decoder: Decoder | null;
  readonly #chat: ChatTemplate;
  readonly #parts: TokenizerParts;
  readonly #specialIds: ReadonlySet<number>;
  readonly #prependsSpace: boolean;

  private constructor(state: TokenizerState) {
    const { native, chat, parts, bos, eos, pad, unk } = state;
    this.#native = native;
    this.#decoder = native.getDecoder();
    this.#chat = chat;
    this.#specialIds = state.specialIds;
    this.#prependsSpace = state.prependsSpace;
    this.bosTokenId = bos?.id;
    this.eosTokenId = eos.id;
    this.padTokenId = pad.id;
    this.endOfTurnTokenId = tokenId(native, chat.endOfTurn);
    this.paddingSide = parts.config["padding_side"] === "left" ? "left" : "right";
    this.chatTemplate = chat.source;
    this.vocabSize = native.getVocabSize(true);
    const roles = { bos_token: bos?.content, eos_token: eos.content, pad_token: pad.content, unk_token: unk?.content };
    this.#parts = { ...parts, config: { ...parts.config, ...roles } };
  }

  /**
   * Loads from a Hugging Face folder, from a `.gguf` file, or by a name on the hub, as `resolveModel` takes it.
   *
   * @throws {CheckpointError} when the path has no tokenizer or a malformed one
   * @throws {ConfigError} as `fromParts`
   */
  static async load(pathOrId: string): Promise<Tokenizer> {
    const path = await resolveModel(pathOrId);
    const parts = path.endsWith(".gguf") ? await readGgufTokenizer(path) : await readTokenizerFolder(path);
    return Tokenizer.fromParts(parts, path);
  }

  /**
   * @param source named in errors
   * @throws {CheckpointError} for a malformed `tokenizerJson` or a special token that the vocabulary does not have
   * @throws {ConfigError} when no end token, no single end-of-turn token or no padding token can be found, or the template does not parse
   */
  static async fromParts(parts: TokenizerParts, source = "tokenizer.json"): Promise<Tokenizer> {
    const native = parseTokenizer(parts.tokenizerJson, source);
    const role = (key: string) => roleToken(native, parts.config, key, source);
    const [bos, eos, configuredPad, unk] = [role("bos_token"), role("eos_token"), role("pad_token"), role("unk_token")];
    if (eos === undefined) {
      throw new ConfigError(`${source}: the tokenizer names no end token; add "eos_token" to tokenizer_config.json`);
    }
    const roles = [bos, eos, configuredPad, unk].filter((token) => token !== undefined);
    const added = addedTokens(parts.tokenizerJson, source);
    // As transformers does: a token with a role is special even where tokenizer.json does not list it.
    const unlisted = roles.filter((token) => !added.some((entry) => entry.id === token.id));
    native.addSpecialTokens(unlisted.map((token) => token.content));
    const special = [...new Map([...added.filter((token) => token.special), ...roles].map((token) => [token.id, token])).values()];
    const variables = {
      eos_token: eos.content,
      ...(bos && { bos_token: bos.content }),
      ...(unk && { unk_token: unk.content }),
    };
    const template = parts.chatTemplate ?? configuredTemplate(parts.config) ?? transcriptTemplate(await addsBos(native, parts.config, bos));
    const chat = withSource(source, () => new ChatTemplate(template, variables, [...added, ...roles].map((token) => token.content)));
    const pad = choosePadToken({ pad: configuredPad, unk, bos, eos }, chat.endOfTurn, special);
    const specialIds = new Set(special.map((token) => token.id));
    return new Tokenizer({ native, chat, parts, bos, eos, pad, unk, specialIds, prependsSpace: await prependsSpace(native) });
  }

  /**
   * Token ids of `text`; special tokens are recognised in it.
   * `addSpecialTokens` adds those of the checkpoint's post-processor (usually bos).
   */
  async encode(text: string, { addSpecialTokens = false }: { addSpecialTokens?: boolean } = {}): Promise<number[]> {
    return (await this.#native.encode(text, null, { addSpecialTokens })).getIds();
  }

  /** `encode` of each text. */
  async encodeBatch(texts: readonly string[], { addSpecialTokens = false }: { addSpecialTokens?: boolean } = {}): Promise<number[][]> {
    const encodings = await this.#native.encodeBatch([...texts], { addSpecialTokens });
    return encodings.map((encoding) => encoding.getIds());
  }

  /** Text of `tokens`. Ids outside the vocabulary have no text (a model may have more rows than the vocabulary). */
  decode(tokens: readonly number[], { skipSpecialTokens = true }: { skipSpecialTokens?: boolean } = {}): string {
    const kept = skipSpecialTokens ? tokens.filter((token) => !this.#specialIds.has(token)) : tokens;
    const texts = kept.map((token) => this.#native.idToToken(token)).filter((text) => text !== null);
    return this.#decoder === null ? texts.join(" ") : this.#decoder.decode(texts);
  }

  /** Rows filled with `padTokenId` to the length of the longest; `side` defaults to `paddingSide`. */
  pad(rows: readonly (readonly number[])[], { side = this.paddingSide }: { side?: Side } = {}): PaddedTokens {
    const length = Math.max(0, ...rows.map((row) => row.length));
    const fill = (row: readonly number[], value: number): number[] => {
      const padding = new Array<number>(length - row.length).fill(value);
      return side === "left" ? [...padding, ...row] : [...row, ...padding];
    };
    return {
      tokens: rows.map((row) => fill(row, this.padTokenId)),
      attentionMask: rows.map((row) =>
        fill(
          row.map(() => 1),
          0,
        ),
      ),
    };
  }

  /** The conversation as the template prints it. @throws {ConfigError} where the template refuses it */
  render(messages: readonly Message[], { addGenerationPrompt = false }: { addGenerationPrompt?: boolean } = {}): string {
    return this.#chat.render(messages, addGenerationPrompt);
  }

  /**
   * Token ids of the conversation up to the place where the assistant's next answer starts: the first part of
   * `encodeConversation([...messages, answer])`, whatever the answer is.
   *
   * @throws {ConfigError} where the template refuses the conversation, or rewrites earlier turns
   */
  async encodePrompt(messages: readonly Message[]): Promise<number[]> {
    return (await this.#encodePieces(this.#chat.promptPieces(messages))).tokens;
  }

  /**
   * Token ids of a conversation that ends with an assistant's turn, up to the last end-of-turn token.
   *
   * @throws {ConfigError} where the template refuses the conversation or rewrites earlier turns, or the last turn is not an assistant's
   */
  async encodeConversation(messages: readonly Message[]): Promise<EncodedConversation> {
    return this.#encodePieces(this.#chat.conversationPieces(messages));
  }

  /** A decoder that takes one token at a time; special tokens give no text. */
  streamDecoder(): StreamDecoder {
    return streamDecoder((tokens) => this.decode(tokens));
  }

  /** Writes `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json` and `chat_template.jinja` into `folder`. */
  async save(folder: string): Promise<void> {
    await writeTokenizerFolder(folder, { ...this.#parts, chatTemplate: this.chatTemplate });
  }

  async #encodePieces(pieces: readonly Piece[]): Promise<EncodedConversation> {
    // SentencePiece tokenizers put a space before any text: a piece that starts with one would have two.
    const dropsSpace = (piece: Piece, index: number) => index > 0 && this.#prependsSpace && piece.text.startsWith(" ");
    const encoded = await this.encodeBatch(pieces.map((piece, index) => (dropsSpace(piece, index) ? piece.text.slice(1) : piece.text)));
    return {
      tokens: encoded.flat(),
      assistantMask: encoded.flatMap((tokens, index) => new Array<boolean>(tokens.length).fill(pieces[index]?.isAnswer ?? false)),
    };
  }
}

function parseTokenizer(tokenizerJson: string, source: string): NativeTokenizer {
  try {
    const native = NativeTokenizer.fromString(tokenizerJson);
    // Rows are cut and filled by the caller, who knows the masks.
    native.disableTruncation();
    native.disablePadding();
    return native;
  } catch (cause) {
    throw new CheckpointError(`${source}: cannot load tokenizer.json: ${(cause as Error).message}`, { cause });
  }
}

/** What `make` gives; its ConfigError also names where the tokenizer comes from. */
function withSource<T>(source: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new ConfigError(`${source}: ${error.message}`, { cause: error });
  }
}

function addedTokens(tokenizerJson: string, source: string): AddedToken[] {
  return (parseJsonObject(tokenizerJson, source)["added_tokens"] ?? []) as AddedToken[];
}

/** `chat_template` of `tokenizer_config.json`: a text, or a list of named texts of which "default" counts. */
function configuredTemplate(config: Readonly<Record<string, unknown>>): string | undefined {
  const template = config["chat_template"];
  if (typeof template === "string") return template;
  if (!Array.isArray(template)) return undefined;
  const named = template as { name?: unknown; template?: unknown }[];
  const found = named.find((entry) => entry.name === "default")?.template;
  if (typeof found === "string") return found;
  const names = named.map((entry) => String(entry.name)).join(", ");
  throw new ConfigError(`chat_template: expected a template named "default", found ${names}; put the one to use into chat_template.jinja`);
}

/** Whether texts of this checkpoint start with bos: `add_bos_token`, or what the post-processor does where it is not said. */
async function addsBos(native: NativeTokenizer, config: Readonly<Record<string, unknown>>, bos: RoleToken | undefined): Promise<boolean> {
  if (bos === undefined) return false;
  if (typeof config["add_bos_token"] === "boolean") return config["add_bos_token"];
  return (await native.encode("", null, { addSpecialTokens: true })).getIds()[0] === bos.id;
}

/** Whether the tokenizer encodes "a" as if it were " a" (U+2581 stands for a space in SentencePiece). */
async function prependsSpace(native: NativeTokenizer): Promise<boolean> {
  return (await native.encode("a", null, { addSpecialTokens: false })).getTokens()[0]?.startsWith("\u2581") ?? false;
}

function tokenId(native: NativeTokenizer, content: string): number {
  const id = native.tokenToId(content);
  if (id === null) throw new Error(`internal: ${content} is an added token without an id`);
  return id;
}
