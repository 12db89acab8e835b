/**
 * The transcript form of DeepSpeed-Chat and of Anthropic's HH data, for checkpoints without a chat template:
 *
 *     \n\nHuman: <user>\n\nAssistant: <assistant><eos>
 *
 * The generation prompt ends in `Assistant:`, so that an answer starts with one space, as words inside a text do.
 * A system message stands before the first turn, without a label. DeepSpeed-Chat itself ends only the last
 * answer with the end token; here every answer has it, since generation must stop after each.
 */
const TRANSCRIPT_TEMPLATE = [
  "{%- for message in messages -%}",
  "{%- if message['role'] == 'user' -%}{{ '\\n\\nHuman: ' + message['content'] }}",
  "{%- elif message['role'] == 'assistant' -%}{{ '\\n\\nAssistant: ' + message['content'] + eos_token }}",
  "{%- elif message['role'] == 'system' and loop.first -%}{{ message['content'] }}",
  "{%- else -%}{{ raise_exception('no place for a message of role ' + message['role'] + ' here') }}",
  "{%- endif -%}",
  "{%- endfor -%}",
  "{%- if add_generation_prompt -%}{{ '\\n\\nAssistant:' }}{%- endif -%}",
].join("");

/** The built-in template, a Jinja text; `startsWithBos` puts the begin-of-text token before the first turn. */
export function transcriptTemplate(startsWithBos: boolean): string {
  return (startsWithBos ? "{{- bos_token -}}" : "") + TRANSCRIPT_TEMPLATE;
}
