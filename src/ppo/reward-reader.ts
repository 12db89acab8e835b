import { ConfigError } from "../errors.ts";
import type { Message } from "../tokenizer/message.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { Parity } from "./parity.ts";
import type { Prompt, Rollout } from "./records.ts";

/** How a reward model takes what the actor wrote. */
export type Reading =
  /** Token ids, as they are. */
  | "tokens"
  /** As text: rendered with the reward model's template and encoded with its tokenizer. */
  | "text";

/**
 * How the reward model takes the actor's answers: as tokens if it has the actor's tokens and template (or none of its own), else as text.
 *
 * @param reward undefined for a folder without a tokenizer, which was trained with the actor's
 */
export function readingOf(actor: Tokenizer, reward: Tokenizer | undefined): Reading {
  if (reward === undefined) return "tokens";
  if (!actor.sharesIdsWith(reward)) return "text";
  const isSameTemplate = actor.chatTemplate === reward.chatTemplate && actor.endOfTurnTokenId === reward.endOfTurnTokenId;
  return isSameTemplate || !reward.hasTemplate ? "tokens" : "text";
}

/** Writes the actor's answers anew, as a reward model with another tokenizer or template has learnt to read them. */
export class RewardReader {
  readonly #actor: Tokenizer;
  readonly #reward: Tokenizer;

  constructor(actor: Tokenizer, reward: Tokenizer) {
    this.#actor = actor;
    this.#reward = reward;
  }

  /**
   * Prompts and answers in the reward model's tokens, each with its end of turn, also where the answer was cut off (with parity not there).
   *
   * @param prompts those of the rollout, each as often as it was answered
   * @throws {ConfigError} for a prompt without messages, or one that the reward model's template refuses
   */
  async rows(prompts: readonly Prompt[], { responses, finishReasons }: Rollout, parity: Parity | undefined): Promise<number[][]> {
    return Promise.all(prompts.map(async (prompt, i) => {
      // A template of the reward model puts its own spaces around the answer.
      const content = this.#actor.decode(responses[i] ?? []).trim();
      const { tokens } = await this.#reward.encodeConversation([...messagesOf(prompt), { role: "assistant", content }]);
      return parity === "deepspeed-chat" && finishReasons[i] === "length" ? tokens.slice(0, -1) : tokens;
    }));
  }

  /** @throws {ConfigError} for the first prompt that the reward model's template refuses: before a run, not in the middle of it */
  async check(prompts: Iterable<Prompt>): Promise<void> {
    for (const prompt of prompts) {
      try {
        await this.#reward.encodePrompt(messagesOf(prompt));
      } catch (cause) {
        if (!(cause instanceof ConfigError)) throw cause;
        throw new ConfigError(`--reward-model: its chat template cannot take a prompt: ${cause.message}`, { cause });
      }
    }
  }
}

/** The tokens of a prompt. */
export function tokensOf(prompt: Prompt): readonly number[] {
  return "tokens" in prompt ? prompt.tokens : prompt;
}

function messagesOf(prompt: Prompt): readonly Message[] {
  if ("tokens" in prompt && prompt.messages) return prompt.messages;
  throw new ConfigError(
    "the reward model has another tokenizer than the actor, so that prompts are needed with their messages: " +
      "give the samples of data.encodePrompts, not their tokens alone; data of plain text has none",
  );
}
