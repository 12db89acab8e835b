import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { inTurn } from "../../bench/lib/in-turn.ts";
import { ppoPeerColumns } from "../../bench/lib/ppo-compare.ts";
import { dataBatches, randomBatches, unequal } from "../../bench/lib/ppo-prompts.ts";
import { stageChart } from "../../bench/lib/stage-chart.ts";
import type { TrainPeerName } from "../../bench/lib/train-peers.ts";
import { peerStepColumns } from "../../bench/train-step.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { writeTinyModel } from "../model/tiny-model.ts";
import { temporaryFolder } from "../temporary-folder.ts";

describe("peers", () => {
  test("ours and theirs run in turn, and results keep their turns", async () => {
    const order: string[] = [];
    const run = (name: string) => async (turn: number) => {
      order.push(`${name}${turn}`);
      return `${name}${turn}`;
    };
    const result = await inTurn(2, run("a"), [{ name: "b", run: run("b") }, { name: "c", run: run("c") }]);
    expect(order).toEqual(["a0", "b0", "c0", "a1", "b1", "c1"]);
    expect(result).toEqual({ ours: ["a0", "a1"], peers: [{ name: "b", results: ["b0", "b1"] }, { name: "c", results: ["c0", "c1"] }] });
  });

  test("the ratio of a training step is over the fastest number format", () => {
    const times = (...seconds: number[]) => ({
      steps: seconds.map((each) => ({ forwardSeconds: each / 4, backwardSeconds: each / 2, optimizerSeconds: each / 4 })),
    });
    const peer = (name: TrainPeerName, peak: number, ...seconds: number[]) => (
      { name, results: seconds.map((each) => ({ ...times(each), peakResidentBytes: peak })) }
    );
    // 100 tokens in 1 and 4 seconds of ours; autocast's 2 and 5 are the fastest: ratios 2 and 1.25.
    const peers = [peer("hfFloat32", 7, 10, 20), peer("hfAmp", 9, 2, 5)];
    expect(peerStepColumns({ ours: [times(1), times(4)], peers }, 100)).toEqual({
      hfFloat32TokensPerSecond: 7.5, hfFloat32PeakResidentBytes: 7, hfAmpTokensPerSecond: 35, hfAmpPeakResidentBytes: 9,
      hfFastest: "hfAmp", hfRatio: 1.625,
    });
    expect(peerStepColumns({ ours: [times(1)], peers: [] }, 100)).toEqual({});
  });

  test("an iteration's columns are medians, and its ratios pair by pair", () => {
    const iteration = (seconds: number, ...responseLengths: number[]) => (
      { generateSeconds: seconds / 2, scoreSeconds: seconds / 4, trainSeconds: seconds / 4, switchSeconds: 0, responseLengths }
    );
    const ours = [1, 3].map((seconds) => ({ iterations: [iteration(seconds, 5, 5)], baseBytes: 1, peakResidentBytes: 10 * seconds }));
    const results = [4, 6].map((seconds) => ({ iterations: [iteration(seconds, 5, seconds)], peakResidentBytes: 10 * seconds }));
    // 2 samples in 4 and 6 seconds: 1/2 and 1/3 a second; 4 and 2 times as long as ours. 9 and 11 tokens. Peaks of 30 and 60.
    expect(ppoPeerColumns({ ours, peers: [{ name: "trl", results }] }, 2)).toEqual({
      trlSamplesPerSecond: (1 / 2 + 1 / 3) / 2, trlRatio: 3, trlSecondsGenerate: 2.5, trlSecondsScore: 1.25, trlSecondsTrain: 1.25,
      trlResponseTokens: 10, trlPeakResidentBytes: 60, trlMemoryRatio: 0.5,
    });
  });
});

describe("prompts of PPO", () => {
  const dialogue = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: How are you?";
  const records = [dialogue, `\n\nHuman: ${"very ".repeat(50)}long`, "\n\nHuman: Bye"];
  const lines = records.map((prompt) => JSON.stringify({ chosen: `${prompt}\n\nAssistant: Well`, rejected: `${prompt}\n\nAssistant: No` }));

  test("are those of the file that are short enough, with the model's template or as DeepSpeed-Chat writes them", async () => {
    const model = writeTinyModel(temporaryFolder(), { family: "llama", tokenizer: true });
    const file = join(model, "data.jsonl");
    writeFileSync(file, lines.join("\n"));
    const tokenizer = await Tokenizer.load(model);
    const texts = async (format: "chat" | "text", count = 2) => {
      const batches = await dataBatches({ batches: count, batch: 1 }, file, { model, promptLength: 60, format });
      return batches.map(([prompt = []]) => tokenizer.decode([...prompt], { skipSpecialTokens: false }));
    };
    expect(await texts("text")).toEqual([
      " Human: Hi\n\nAssistant: Hello\n\nHuman: How are you?\n\nAssistant:", " Human: Bye\n\nAssistant:",
    ]);
    expect((await texts("chat"))[1]).toMatch(/<\|im_start\|>user\nBye<\|im_end\|>\n<\|im_start\|>assistant\n$/);
    await expect(texts("chat", 3)).rejects.toMatchObject({
      name: "ConfigError", message: expect.stringContaining("has 2 prompts of at most 60 tokens, needed are 3 (3 batches of 1,"),
    });
  });

  test("of exactly one length are shortened for others, all but the first of a batch", () => {
    const prompts = randomBatches({ batches: 2, batch: 4 }, 256, 500);
    expect(prompts.map((rows) => rows.map((row) => row.length))).toEqual(Array(2).fill([256, 256, 256, 256]));
    // 64 / 4 more for each row.
    expect(unequal(prompts).map((rows) => rows.map((row) => row.length))).toEqual(Array(2).fill([256, 240, 224, 208]));
    expect(unequal(prompts)[1]?.[3]).toEqual(prompts[1]?.[3]?.slice(0, 208));
  });
});

describe("pictures", () => {
  const bars = [
    { name: "ours", seconds: { generate: 2, score: 0.5, train: 3, switch: 0.001 } },
    { name: "<theirs>", seconds: { generate: 10, score: 4, train: 6, switch: 0 } },
  ];

  test("a bar's parts lie one behind the other, on the scale of the longest bar", () => {
    const rects = [...stageChart(bars, "Seconds").matchAll(/<rect x="([\d.]+)" y="(\d+)" width="([\d.]+)" height="34"/g)]
      .map(([, x, y, width]) => [Number(x), Number(y), Number(width)] as const);
    const widths = rects.map(([, , width]) => width);
    // 20 seconds are as long as the second bar.
    const scale = widths.slice(4).reduce((sum, width) => sum + width, 0) / 20;
    const expected = [2, 0.5, 3, 0.001, 10, 4, 6, 0].map((seconds) => seconds * scale);
    for (const [i, width] of widths.entries()) expect(width).toBeCloseTo(expected[i] ?? Number.NaN, 1);
    for (const i of [0, 1, 2, 4, 5, 6]) expect(rects[i + 1]?.[0]).toBeCloseTo((rects[i]?.[0] ?? 0) + (widths[i] ?? 0), 1);
    expect(new Set(rects.map(([, y]) => y)).size).toBe(2);
  });

  test("stages, names, seconds and the switch are written out", () => {
    const texts = [...stageChart(bars, "A & B").matchAll(/<text [^>]*>([^<]*)</g)].map(([, content]) => content);
    expect(texts).toEqual([
      "A &amp; B", "generate", "score", "train", "switch (ours: 1 ms)",
      "0 s", "5 s", "10 s", "15 s", "20 s", "ours", "2", "3", "5.5 s", "&lt;theirs&gt;", "10.0", "4", "6", "20.0 s",
    ]);
  });
});
