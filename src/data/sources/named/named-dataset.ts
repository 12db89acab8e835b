import type { Origin, SkippedRecord } from "../../records.ts";
import { compileMapping, type FieldMapping, type RowMapper } from "../mapping.ts";
import { recordOf, withoutMissing } from "../parse-record.ts";
import type { Row } from "../row.ts";

/** A published data set that is known by its name. */
export interface NamedDataset {
  /** `org/name`, as DeepSpeed-Chat or the hub calls it. */
  readonly id: string;
  /** The repository on the hub, where it is called otherwise. */
  readonly hub?: string;
  /** Splits on the hub, `split` or `config/split`; without `eval` the original takes a tenth of `train`. */
  readonly splits: { readonly train: string; readonly eval?: string };
  /** Makes a row of our shapes from a published record; left out where the record has one of them. */
  readonly read?: RowMapper;
  /** The strings that DeepSpeed-Chat makes of a row: for data sets that it knows. */
  readonly original?: (row: Row) => OriginalStrings;
}

/** A record as DeepSpeed-Chat's strings; prompt and answer follow each other without anything between them. */
export interface OriginalStrings {
  readonly prompt: string;
  readonly chosen: string | undefined;
  readonly rejected: string | undefined;
}

/** ` Human: <prompt> Assistant: <answer>`, the strings of most data sets of DeepSpeed-Chat. */
export function spacedStrings({ fields }: Row): OriginalStrings {
  const answer = (field: unknown): string | undefined => (field === undefined ? undefined : ` ${String(field)}`);
  return {
    prompt: ` Human: ${String(fields["prompt"])} Assistant:`,
    chosen: answer(fields["chosen"] ?? fields["completion"]),
    rejected: answer(fields["rejected"]),
  };
}

/** The record's own strings. */
export function ownStrings({ fields }: Row): OriginalStrings {
  const answer = (field: unknown): string | undefined => (field === undefined ? undefined : String(field));
  return { prompt: String(fields["prompt"]), chosen: answer(fields["chosen"]), rejected: answer(fields["rejected"]) };
}

/**
 * A field mapping for a published file. Nobody wrote its gaps by mistake here, so a record that lacks what the mapping names is
 * skipped and counted rather than refused.
 */
export function published(mapping: FieldMapping): RowMapper {
  const read = compileMapping(mapping);
  const needed = Object.keys(mapping).filter((key) => ["prompt", "completion", "chosen", "rejected"].includes(key));
  return (value, origin) => {
    const row = read(value, origin);
    if ("kind" in row) return row;
    const gap = [...needed, ...("a_wins" in mapping ? ["chosen", "rejected"] : [])].find((key) => isBlank(row.fields[key]));
    return gap === undefined ? row : skipped(`no text for ${gap}`);
  };
}

/** A mapper in code: from the record to the fields of one of our shapes, or to the reason why it is skipped. */
export function reading(read: (record: Readonly<Record<string, unknown>>) => Row["fields"] | string): RowMapper {
  return (value, origin: Origin) => {
    const fields = read(recordOf(value, origin));
    return typeof fields === "string" ? skipped(fields) : { origin, fields: withoutMissing(fields) };
  };
}

function skipped(reason: string): SkippedRecord {
  return { kind: "skipped", reason };
}

function isBlank(value: unknown): boolean {
  return value === undefined || (typeof value === "string" && value.trim() === "");
}
