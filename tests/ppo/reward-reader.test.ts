import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { completeConfig } from "../../src/config/resolve.ts";
import { RewardModel } from "../../src/model/reward-model.ts";
import { ppoSettings } from "../../src/ppo/config.ts";
import { PpoTrainer } from "../../src/ppo/ppo-trainer.ts";
import { RlhfEngine } from "../../src/ppo/rlhf-engine.ts";
import { trainPpo } from "../../src/ppo/train.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { assertClose } from "../assert-close.ts";
import { rejection } from "../failure.ts";
import { writeTinyModel } from "../model/tiny-model.ts";
import { MemoryRun, writeJsonl } from "../pipeline/memory-run.ts";
import { temporaryFolder } from "../temporary-folder.ts";
import { unpackFixture } from "../tokenizer/fixture-folders.ts";
import { loadTinyRlhf, prompts as tokenPrompts, writeTinyModels } from "./tiny-rlhf.ts";

// Refuses system messages, as Gemma's and Mistral's do.
const TEMPLATE =
  "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system message here') }}{% endif %}" +
  "{{ '[' + m.role + '] ' + m.content + '</s>' }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";

/** An actor with the byte-level tokenizer of the tests, and a reward model with a SentencePiece tokenizer of 2,600 and another template. */
async function writeDifferentModels(folder: string): Promise<{ actor: string; rewardModel: string }> {
  const { actor } = await writeTinyModels(folder);
  const config = { vocab_size: 2600, max_position_embeddings: 256 };
  const base = writeTinyModel(join(folder, "other"), { family: "llama", seed: 3, config });
  const rewardModel = join(folder, "other-reward");
  const model = await RewardModel.withNewHead(base, { dtype: "float32", head: { seed: 4 } });
  await model.save(rewardModel, { padTokenId: 0 });
  unpackFixture("spm-llama", rewardModel);
  writeFileSync(join(rewardModel, "chat_template.jinja"), TEMPLATE);
  return { actor, rewardModel };
}

const questions = ["What is the sky?", "Name a colour.", "Count to 3", "caf\u00e9 \u{1F600}?"];
const messagesOf = (content: string) => [{ role: "user", content }] as const;
const options = { seed: 5, maxNewTokens: 6, miniBatchSize: 8, samplesPerPrompt: 2, microBatchTokens: 128 };

async function promptsFor({ tokenizer }: RlhfEngine) {
  return Promise.all(questions.map(messagesOf).map(async (messages) => ({ tokens: await tokenizer.encodePrompt(messages), messages })));
}

describe("a reward model with another tokenizer", () => {
  test("reads prompt and answer as its own template and tokenizer write them", async () => {
    const folders = await writeDifferentModels(temporaryFolder());
    const rlhf = await RlhfEngine.load({ ...folders, dtype: "float32" });
    const { prompts, responses, scores, finishReasons } = await new PpoTrainer(rlhf, options).generateExperience(await promptsFor(rlhf));
    const reward = await Tokenizer.load(folders.rewardModel);
    expect(prompts).toHaveLength(8);
    expect(finishReasons).toContain("length"); // those end with an end of turn, too
    for (const [i, response] of responses.entries()) {
      const answer = rlhf.tokenizer.decode(response).trim();
      const asked = await reward.encode(`[user] ${questions[Math.floor(i / 2)]}</s>[assistant]`);
      const answered = await reward.encode(`${answer}</s>`); // this tokenizer puts the space in front of any text
      const score = noGrad(() => rlhf.rewardModel.scoreRows([[...asked, ...answered]])).item();
      assertClose(scores.select(0, i).item(), score, { atol: 1e-5 });
    }
  });

  test("gives the critic no start: it starts from the actor, at zero, and the run says both", async () => {
    const rlhf = await RlhfEngine.load({ ...(await writeDifferentModels(temporaryFolder())), dtype: "float32" });
    expect(rlhf.critic.model.spec.vocabSize).toBe(400);
    const { values } = await new PpoTrainer(rlhf, options).generateExperience(await promptsFor(rlhf));
    expect(values.abs().sum().item()).toBe(0);
    expect(rlhf.notes).toEqual([
      "reward model: another tokenizer or chat template than the actor's; it reads the answers as text",
      "critic: starts from the actor with a head of zeros, since the reward model has other tokens",
    ]);
  });

  test("needs prompts with their messages", async () => {
    const rlhf = await RlhfEngine.load({ ...(await writeDifferentModels(temporaryFolder())), dtype: "float32" });
    expect(await rejection(() => new PpoTrainer(rlhf, options).generateExperience([[5, 6], [7, 8], [9], [10]]))).toEqual({
      name: "ConfigError",
      code: "E_CONFIG",
      message:
        "the reward model has another tokenizer than the actor, so that prompts are needed with their messages: " +
        "give the samples of data.encodePrompts, not their tokens alone; data of plain text has none",
    });
  });

  test("trains from end to end, with figures of held-out prompts", async () => {
    const { settings, run } = await setUp(questions.map((prompt) => ({ prompt })));
    const summary = await trainPpo(settings, run);
    expect(summary).toMatchObject({ iterations: 2, trainPrompts: 4, evalPrompts: 4 });
    expect(Number.isFinite(summary.after.reward.mean)).toBe(true);
    expect(run.notes.join("\n")).toContain("it reads the answers as text");
  });

  test("refuses prompts that its template cannot take before the first answer", async () => {
    const prompt = [{ role: "system", content: "s" }, { role: "user", content: "u" }];
    const { settings, run } = await setUp([{ prompt }, ...questions.map((text) => ({ prompt: text }))]);
    expect(await rejection(() => trainPpo(settings, run))).toMatchObject({
      name: "ConfigError",
      code: "E_CONFIG",
      message: expect.stringMatching(/^--reward-model: its chat template cannot take a prompt: .*no system message here/),
    });
    expect(run.logged).toEqual([]);
  });
});

/** Settings of a run of two iterations with that reward model. */
async function setUp(records: readonly object[]) {
  const folder = temporaryFolder();
  const settings = completeConfig(ppoSettings, {
    ...(await writeDifferentModels(folder)), output: join(folder, "run"), data: [writeJsonl(join(folder, "prompts.jsonl"), records)],
    evalData: writeJsonl(join(folder, "eval.jsonl"), questions.map((prompt) => ({ prompt }))), dtype: "float32",
    rolloutBatchSize: 2, miniBatchSize: 2, maxNewTokens: 6, maxSteps: 2,
  });
  return { settings, run: new MemoryRun(settings.output) };
}

describe("a reward model with the actor's tokenizer", () => {
  test("takes the actor's tokens, whether prompts come with messages or not", async () => {
    const folder = temporaryFolder(), rlhf = await loadTinyRlhf(folder);
    expect([rlhf.rewardReader, rlhf.notes]).toEqual([undefined, []]);
    const withMessages = tokenPrompts.map((tokens) => ({ tokens, messages: messagesOf("other text") }));
    const plain = await new PpoTrainer(rlhf, options).generateExperience(tokenPrompts);
    const both = await new PpoTrainer(rlhf, options).generateExperience(withMessages);
    expect(both.scores.numbers()).toEqual(plain.scores.numbers());
  });

  test("takes them, too, without a tokenizer or a template of its own, but not with another template", async () => {
    const folder = temporaryFolder(), { actor, rewardModel } = await writeTinyModels(folder);
    const reads = async () => (await RlhfEngine.load({ actor, rewardModel, dtype: "float32" })).rewardReader !== undefined;
    expect(await reads()).toBe(false);
    writeFileSync(join(rewardModel, "chat_template.jinja"), "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}");
    expect(await reads()).toBe(true);
    rmSync(join(rewardModel, "chat_template.jinja"));
    const path = join(rewardModel, "tokenizer_config.json");
    const { chat_template: _template, ...config } = JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
    writeFileSync(path, JSON.stringify(config));
    expect(await reads()).toBe(false);
    for (const file of ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]) rmSync(join(rewardModel, file));
    expect(await reads()).toBe(false);
  });

  test("reads text if it has fewer rows than the actor, which might sample a token that it does not have", async () => {
    const folder = temporaryFolder(), { rewardModel } = await writeTinyModels(folder);
    const config = { vocab_size: 448, max_position_embeddings: 128 };
    const actor = writeTinyModel(join(folder, "padded"), { family: "llama", tokenizer: true, config });
    const rlhf = await RlhfEngine.load({ actor, rewardModel, dtype: "float32" });
    expect(rlhf.rewardReader).toBeDefined();
    expect(rlhf.critic.model.spec.vocabSize).toBe(448);
  });
});
