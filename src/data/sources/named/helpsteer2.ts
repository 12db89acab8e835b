import type { Message } from "../../../tokenizer/message.ts";
import { compileMapping, type RowMapper } from "../mapping.ts";
import type { NamedDataset } from "./named-dataset.ts";

const pair = compileMapping({
  prompt: "prompt", answer_a: "response_1", answer_b: "response_2", a_wins: "preference_strength < 0", b_wins: "preference_strength > 0",
});

/** Prompts with two answers and how much better the second is, from -3 to 3: the folder `preference` of the repository. */
export const helpsteer2: NamedDataset = {
  id: "nvidia/HelpSteer2",
  splits: { train: "preference/train", eval: "preference/validation" },
  read,
};

function read(...[value, origin]: Parameters<RowMapper>): ReturnType<RowMapper> {
  const row = pair(value, origin);
  if ("kind" in row || typeof row.fields["prompt"] !== "string") return row;
  return { ...row, fields: { ...row.fields, prompt: parseTurns(row.fields["prompt"]) } };
}

/** Further turns begin with a line of their own: `<extra_id_1>Assistant` or `<extra_id_1>User`. */
function parseTurns(text: string): Message[] {
  const [first = "", ...parts] = text.split(/\n<extra_id_1>(User|Assistant)\n/);
  const messages: Message[] = [{ role: "user", content: first }];
  for (let i = 0; i + 1 < parts.length; i += 2) {
    messages.push({ role: parts[i] === "User" ? "user" : "assistant", content: parts[i + 1] ?? "" });
  }
  return messages;
}
