import { CheckpointError } from "../errors.ts";

/** Kinds of pieces (`ModelProto.SentencePiece.Type`). */
export const PieceType = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** Kinds of models (`TrainerSpec.ModelType`). */
export const ModelType = { unigram: 1, bpe: 2, word: 3, char: 4 } as const;

/** An entry of the vocabulary. */
export interface SentencePiece {
  text: string;
  score: number;
  type: number;
}

/** What a SentencePiece file (`tokenizer.model`) says, with the format's defaults filled in. */
export interface SentencePieceModel {
  pieces: SentencePiece[];
  modelType: number;
  /** A character without a piece becomes the pieces `<0x00>` ... `<0xFF>` of its bytes. */
  byteFallback: boolean;
  treatWhitespaceAsSuffix: boolean;
  /** Ids of the tokens with a role; -1 for none. */
  unkId: number;
  bosId: number;
  eosId: number;
  padId: number;
  /** A compiled table of replacements; empty for none. */
  charsMap: Uint8Array;
  addDummyPrefix: boolean;
  removeExtraWhitespaces: boolean;
  escapeWhitespaces: boolean;
  /** Whether decoding replaces characters, too. */
  denormalizes: boolean;
}

type Value = number | Uint8Array;
type Fields = Map<number, Value[]>;

/**
 * Reads a SentencePiece model: a protobuf message whose fields are those of `sentencepiece_model.proto`
 * (github.com/google/sentencepiece).
 *
 * @param source named in errors
 * @throws {CheckpointError} for bytes that are no such message
 */
export function readSentencePieceModel(bytes: Uint8Array, source: string): SentencePieceModel {
  const reader = new MessageReader(source);
  const model = reader.fields(bytes);
  const trainer = reader.fields(reader.bytes(model, 2) ?? new Uint8Array());
  const normalizer = reader.fields(reader.bytes(model, 3) ?? new Uint8Array());
  const denormalizer = reader.fields(reader.bytes(model, 5) ?? new Uint8Array());
  const pieces = (model.get(1) ?? []).map((value) => {
    const piece = reader.fields(reader.asBytes(value));
    return { text: reader.text(piece, 1), score: reader.float(piece, 2), type: reader.integer(piece, 3, PieceType.normal) };
  });
  if (pieces.length === 0) throw new CheckpointError(`${source}: is not a SentencePiece model: it has no pieces`);
  return {
    pieces,
    modelType: reader.integer(trainer, 3, ModelType.unigram),
    byteFallback: reader.integer(trainer, 35, 0) === 1,
    treatWhitespaceAsSuffix: reader.integer(trainer, 24, 0) === 1,
    unkId: reader.integer(trainer, 40, 0),
    bosId: reader.integer(trainer, 41, 1),
    eosId: reader.integer(trainer, 42, 2),
    padId: reader.integer(trainer, 43, -1),
    charsMap: reader.bytes(normalizer, 2) ?? new Uint8Array(),
    addDummyPrefix: reader.integer(normalizer, 3, 1) === 1,
    removeExtraWhitespaces: reader.integer(normalizer, 4, 1) === 1,
    escapeWhitespaces: reader.integer(normalizer, 5, 1) === 1,
    denormalizes: (reader.bytes(denormalizer, 2)?.length ?? 0) > 0,
  };
}

/** The wire format of protobuf: varints, 32 and 64 bits, and byte strings. */
class MessageReader {
  readonly #source: string;
  readonly #decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

  constructor(source: string) {
    this.#source = source;
  }

  /** The values of each field of a message, in their order. */
  fields(bytes: Uint8Array): Fields {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const fields: Fields = new Map();
    let at = 0;
    const varint = (): number => {
      let value = 0n;
      for (let shift = 0n; shift < 70n; shift += 7n) {
        const byte = bytes[at++];
        if (byte === undefined) throw this.#malformed();
        value |= BigInt(byte & 127) << shift;
        if (byte < 128) return Number(BigInt.asIntN(64, value));
      }
      throw this.#malformed();
    };
    const take = (length: number): Uint8Array => {
      if (length < 0 || at + length > bytes.length) throw this.#malformed();
      at += length;
      return bytes.subarray(at - length, at);
    };
    while (at < bytes.length) {
      const tag = varint();
      const [field, wire] = [Math.floor(tag / 8), tag % 8];
      let value: Value;
      if (wire === 0) value = varint();
      else if (wire === 2) value = take(varint());
      else if (wire === 5) value = view.getFloat32(take(4).byteOffset - bytes.byteOffset, true);
      else if (wire === 1) value = view.getFloat64(take(8).byteOffset - bytes.byteOffset, true);
      else throw this.#malformed();
      const values = fields.get(field);
      if (values) values.push(value);
      else fields.set(field, [value]);
    }
    return fields;
  }

  asBytes(value: Value | undefined): Uint8Array {
    if (value instanceof Uint8Array) return value;
    throw this.#malformed();
  }

  bytes(fields: Fields, field: number): Uint8Array | undefined {
    const value = fields.get(field)?.at(-1);
    return value === undefined ? undefined : this.asBytes(value);
  }

  text(fields: Fields, field: number): string {
    try {
      return this.#decoder.decode(this.bytes(fields, field) ?? new Uint8Array());
    } catch (cause) {
      throw this.#malformed(cause);
    }
  }

  integer(fields: Fields, field: number, otherwise: number): number {
    const value = fields.get(field)?.at(-1) ?? otherwise;
    if (typeof value === "number" && Number.isInteger(value)) return value;
    throw this.#malformed();
  }

  float(fields: Fields, field: number): number {
    const value = fields.get(field)?.at(-1) ?? 0;
    if (typeof value === "number") return value;
    throw this.#malformed();
  }

  #malformed(cause?: unknown): CheckpointError {
    const hint = "expected a file that SentencePiece wrote; download it again, or convert the tokenizer to tokenizer.json";
    const found = "its bytes are no message of that format";
    return new CheckpointError(`${this.#source}: is not a SentencePiece model: ${found}; ${hint}`, { cause });
  }
}
