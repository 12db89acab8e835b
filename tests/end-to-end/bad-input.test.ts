import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { runCommandLine } from "../../src/cli/program.ts";
import { HybridEngine } from "../../src/engine/hybrid-engine.ts";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { RewardModel } from "../../src/model/reward-model.ts";
import { binding, type TensorHandle } from "../../src/native/binding.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { tensor, zeros } from "../../src/tensor/create.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { rejection } from "../failure.ts";
import { writeBrokenFiles } from "./broken-files.ts";
import { tschat } from "./cli.ts";

let folder: string, before: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "tschat-test-"));
  await writeBrokenFiles(folder);
  before = process.cwd();
  process.chdir(folder); // so that messages name short paths
  mkdirSync("runs");
});
afterAll(() => {
  process.chdir(before);
  rmSync(folder, { recursive: true, force: true });
});

/** Runs a command line in this process, which stands for the rank that trains. */
async function run(args: readonly string[]): Promise<{ code: number; err: string }> {
  const printed: string[] = [];
  vi.stubEnv("RANK", "0");
  const silent = vi.spyOn(process.stdout, "write").mockReturnValue(true);
  const errors = vi.spyOn(process.stderr, "write").mockImplementation((text) => printed.push(String(text)) > 0);
  try {
    return { code: await runCommandLine(args), err: printed.join("") };
  } finally {
    silent.mockRestore();
    errors.mockRestore();
    vi.unstubAllEnvs();
  }
}

let runs = 0;
/** A command line of a small run into a folder of its own; `changes` replace or add flags. */
function commandLine(command: string, flags: Readonly<Record<string, string>>, changes: readonly string[]): string[] {
  const small = {
    "--output": `runs/${runs++}`,
    ...(changes.includes("--eval-data") ? {} : { "--eval-size": "4" }),
    "--dtype": "float32",
    "--max-steps": "3",
  };
  return [
    command,
    ...Object.entries({ ...small, "--data": "pairs.jsonl", ...flags })
      .filter(([flag]) => !changes.includes(flag))
      .flat(),
    ...changes,
  ];
}
const sft = (...changes: string[]) => commandLine("sft", { "--model": "tiny" }, changes);
const reward = (...changes: string[]) => commandLine("reward", { "--model": "tiny" }, changes);
const ppo = (...changes: string[]) =>
  commandLine(
    "ppo",
    { "--actor": "tiny", "--reward-model": "reward", "--rollout-batch-size": "4", "--mini-batch-size": "4", "--max-new-tokens": "4" },
    changes,
  );

/** Arguments, and the message that must come with exit code 2. */
const refusals: [name: string, args: () => string[], message: RegExp][] = [
  // models
  [
    "a missing model folder",
    () => sft("--model", "none"),
    /^none: no such file or folder here, and the cache does not hold a model of this name \(HF_HUB_OFFLINE=1\); to fetch it by hand/,
  ],
  ["a missing .gguf file", () => sft("--model", "none.gguf"), /^none\.gguf: cannot be read as a GGUF file: .*no such file/],
  ["a .gguf file that is none", () => sft("--model", "fake.gguf"), /^fake\.gguf: cannot be read as a GGUF file: .*magic number/],
  [
    "truncated weights",
    () => sft("--model", "truncated"),
    /^truncated\/model\.safetensors: truncated: "[a-z_.\d]+" ends at byte \d+, the file has 100000; download it again/,
  ],
  [
    "a tensor of another shape",
    () => sft("--model", "misshapen"),
    /^misshapen: "model\.layers\.0\.mlp\.gate_proj\.weight" is \[48, 32\], the model expects \[64, 32\]/,
  ],
  ["a missing tensor", () => sft("--model", "one-layer-more"), /^one-layer-more: "model\.layers\.2\.self_attn\.q_proj\.weight" is missing/],
  [
    "an unknown architecture",
    () => sft("--model", "unknown-family"),
    /^unknown-family: model_type "mamba"; tschat runs "llama", .*"falcon": choose a model of one of these families/,
  ],
  ["a config.json that is not JSON", () => sft("--model", "broken-config"), /^broken-config\/config\.json: is not JSON: .*position 23/],
  ["a folder without config.json", () => sft("--model", "no-config"), /^no-config: has no config\.json/],
  [
    "a folder without tokenizer",
    () => sft("--model", "no-tokenizer"),
    /^no-tokenizer: cannot load a tokenizer: the folder has no tokenizer\.json/,
  ],
  ["a tokenizer.json that is none", () => sft("--model", "broken-tokenizer"), /^broken-tokenizer: cannot load tokenizer\.json: /],
  [
    "a chat template that does not parse",
    () => sft("--model", "broken-template"),
    /^broken-template: chat template: cannot be parsed: .*; correct chat_template\.jinja/,
  ],
  [
    "pickled weights that would run a command",
    () => sft("--model", "pickled"),
    /^pickled\/pytorch_model\.bin: its pickle asks for "posix\.system", which is no part of a tensor; a pickle can run any code/,
  ],
  [
    "a reward model where a language model is expected",
    () => sft("--model", "reward"),
    /^reward: has a "score\.weight": it is a reward model, where a language model is expected/,
  ],
  ["a reward model to chat with", () => ["chat", "reward"], /^reward: has a "score\.weight": it is a reward model/],
  [
    "a language model where a reward model is expected",
    () => ppo("--reward-model", "tiny"),
    /^tiny: has no "score\.weight": it is no reward model; train one with "tschat reward"/,
  ],
  // data
  ["an empty data file", () => sft("--data", "empty.jsonl"), /^empty\.jsonl: expected at least one record, found an empty file/],
  ["a data file of blank lines", () => sft("--data", "blank.jsonl"), /^blank\.jsonl: expected at least one record, found only blank lines/],
  ["a missing data file", () => sft("--data", "none.jsonl"), /^none\.jsonl: expected a data file or a folder of them, found nothing/],
  ["a folder without data", () => sft("--data", "notes"), /^notes: expected data files \(.*\), found todo\.txt; check the path/],
  ["a weight too few", () => sft("--data", "pairs.jsonl", "pairs.jsonl", "--data-weights", "1"), /^--data-weights: expected a weight for/],
  ["a line that is not JSON", () => sft("--data", "bad-json.jsonl"), /^bad-json\.jsonl:3: expected one JSON object on the line, found: /],
  [
    "a record without its prompt",
    () => sft("--data", "no-prompt.jsonl"),
    /^no-prompt\.jsonl:2: field "chosen": expected a whole conversation .* or put the question into "prompt"/,
  ],
  [
    "a record without an answer",
    () => sft("--data", "prompts.jsonl"),
    /^prompts\.jsonl:1: field "completion": expected an answer to imitate, found a prompt alone/,
  ],
  [
    "pairs without a rejected answer",
    () => reward("--data", "prompts.jsonl"),
    /^prompts\.jsonl:1: field "rejected": expected an answer that was not preferred, found nothing/,
  ],
  [
    "a truncated .gz file",
    () => sft("--data", "cut.jsonl.gz"),
    /^cut\.jsonl\.gz: expected a whole compressed file, found a damaged or truncated one/,
  ],
  [
    "records that are all too long for the context",
    () => sft("--data", "long.jsonl"),
    /^maxSeqLen 128: expected records of at most 128 tokens, found 8, the shortest of \d+ tokens/,
  ],
  [
    "held-out prompts that are all too long for the context",
    () => ppo("--eval-data", "long.jsonl"),
    /^maxPromptLen 127: expected records of at most 127 tokens, found 12/,
  ],
  [
    "more held-out records than there are",
    () => sft("--eval-size", "12"),
    /^held-out share 12: expected fewer than the 12 records there are/,
  ],
  ["a split of two shares", () => sft("--data-split", "1,2"), /^split "1,2": expected three shares \(SFT, reward model, PPO\), found 2/],
  [
    "fewer prompts than a rollout takes",
    () => ppo("--rollout-batch-size", "16", "--mini-batch-size", "16"),
    /^--rollout-batch-size: a rollout takes 16 prompts, there are 8 to train on; lower it or add prompts/,
  ],
  // settings
  ["a bad value", () => sft("--learning-rate", "fast"), /^--learning-rate: expected a number of at least 0, got "fast"/],
  ["an unknown flag", () => sft("--lerning-rate", "1"), /^unknown flag --lerning-rate; did you mean --learning-rate\?/],
  ["an unknown command", () => ["sftt"], /^unknown command sftt; did you mean sft\?/],
  [
    "an unknown setting in a file",
    () => sft("--config", "typo.yaml"),
    /^typo\.yaml:3: sft\.learningRat: unknown setting; did you mean learningRate\?/,
  ],
  ["float16", () => sft("--dtype", "fp16"), /^--dtype: expected one of auto, float32, bfloat16, got "fp16"/],
  ["CUDA", () => sft("--device", "cuda"), /^--device: expected one of auto, cpu, got "cuda"/],
  [
    "a forward that cannot hold a sequence",
    () => sft("--micro-batch-tokens", "100"),
    /^--micro-batch-tokens: expected at least --max-seq-len \(512\), got 100/,
  ],
  [
    "a forward that cannot hold a pair",
    () => reward("--data", "pairs.jsonl", "--micro-batch-tokens", "600"),
    /^--micro-batch-tokens: expected at least twice --max-seq-len \(1024\), got 600/,
  ],
  [
    "a minibatch that does not divide the rollout",
    () => ppo("--mini-batch-size", "3"),
    /^--mini-batch-size: expected a divisor of the answers of a rollout \(4 prompts x 1 samples = 4\), got 3/,
  ],
  ["rollouts at temperature 0", () => ppo("--temperature", "0"), /^--temperature: expected a number above 0, got 0/],
  ["answers of no token", () => ppo("--max-new-tokens", "0"), /^--max-new-tokens: expected a whole number of at least 1, got 0/],
  ["top-p above 1", () => ["chat", "tiny", "--top-p", "1.5"], /^--top-p: expected a number above 0 and at most 1, got 1\.5/],
  [
    "PPO without the models it needs",
    () => ["train", "--model", "tiny", "--data", "pairs.jsonl", "--output", "runs/x", "--step", "ppo"],
    /^step ppo needs runs\/x\/sft\/model, which step sft makes: add it \(--step sft,ppo\) or name another model/,
  ],
  // output
  [
    "a file in place of the output folder",
    () => sft("--output", "a-file"),
    /^could not write a-file: file already exists; something else has this name; choose another --output/,
  ],
  [
    "a file above the output folder",
    () => sft("--output", "a-file/out"),
    /^could not write a-file\/out: not a directory; a part of this path is a file/,
  ],
  [
    "an output folder with other files",
    () => sft("--output", "notes"),
    /^--output: notes is not a run folder and not empty \(it holds todo\.txt\); choose another/,
  ],
];

describe("the command line refuses with exit code 2 and a message", () => {
  test.each(refusals)("%s", async (_name, args, message) => {
    const { code, err } = await run(args());
    expect(err).toMatch(message);
    expect(err).not.toMatch(/\n\s+at /); // no stack
    expect(code).toBe(2);
  });

  test("a finished run without --force", async () => {
    const args = sft("--output", "runs/finished", "--max-steps", "1");
    expect((await run(args)).code).toBe(0);
    expect(await run(args)).toEqual({
      code: 2,
      err: "--output: runs/finished holds a finished run; choose another folder, or --force to train again and replace it\n",
    });
    expect((await run([...args, "--force"])).code).toBe(0);
  });
});

describe("training that cannot go on ends with exit code 1 and a TrainingError:", () => {
  test.each<[string, () => string[], RegExp]>([
    [
      "a learning rate that blows up",
      () => sft("--learning-rate", "1e30"),
      /^TrainingError: the (loss|gradient's norm) became (NaN|Infinity) at step 2: [^\n]+ not finite; lower the learning rate/,
    ],
    [
      "a model of NaN",
      () => sft("--model", "nan"),
      /^TrainingError: the loss became NaN at step 1: the parameter "[^"]+" \(\d+ of \d+\) is not finite; nothing is trained yet, /,
    ],
    ["an actor of NaN", () => ppo("--actor", "nan"), /^TrainingError: .*NaN/],
    [
      "a reward model of NaN",
      () => ppo("--reward-model", "nan-reward"),
      /^TrainingError: PPO: the reward model gave a score that is not finite in iteration 1/,
    ],
  ])("%s", async (_name, args, message) => {
    const { code, err } = await run(args());
    expect(err).toMatch(message);
    expect(code).toBe(1);
  });
});

describe("through real processes the message comes once, and the exit code is the rank's:", () => {
  test.each<[string, () => string[], number, RegExp]>([
    ["a missing model", () => sft("--model", "none"), 2, /^none: no such file or folder here, [^\n]+\n$/],
    ["a wrong flag", () => sft("--epochs", "0"), 2, /^--epochs: expected a whole number of at least 1, got 0\n$/],
    [
      "a damaged model",
      () => sft("--model", "nan"),
      1,
      /^TrainingError: the loss became NaN at step 1: [^\n]+\n\(TSCHAT_DEBUG=1 prints the whole error\)\n$/,
    ],
    ["a missing model to chat with", () => ["chat", "none"], 2, /^none: no such file or folder here, [^\n]+\n$/],
  ])("%s", async (_name, args, code, message) => {
    const end = await tschat(args(), { cwd: folder });
    expect(end.err).toMatch(message);
    expect(end.code).toBe(code);
  });
});

describe("the library throws", () => {
  const engine = async () => new HybridEngine(await CausalLM.load("tiny", { dtype: "float32" }));
  const generate = async (prompts: number[][], options: Parameters<HybridEngine["generate"]>[1]) =>
    (await engine()).generate(prompts, options);
  test.each<[string, () => Promise<unknown>, { name: string; code?: string; message: RegExp }]>([
    [
      "for a missing model",
      () => CausalLM.load("none"),
      { name: "ConfigError", code: "E_CONFIG", message: /^none: no such file or folder here, and the cache does not hold a model/ },
    ],
    [
      "for a missing reward model",
      () => RewardModel.load("tiny"),
      { name: "CheckpointError", code: "E_CHECKPOINT", message: /^tiny: has no "score\.weight"/ },
    ],
    [
      "for a folder without tokenizer",
      () => Tokenizer.load("no-tokenizer"),
      { name: "CheckpointError", code: "E_CHECKPOINT", message: /has no tokenizer\.json/ },
    ],
    [
      "for a device there is not",
      () => CausalLM.load("tiny", { device: "cuda" }),
      { name: "ConfigError", code: "E_CONFIG", message: /^device: expected "auto" or "cpu", got "cuda"/ },
    ],
    [
      "for a wrong dtype",
      () => CausalLM.load("tiny", { dtype: "float16" as "float32" }),
      { name: "ConfigError", code: "E_CONFIG", message: /^dtype: expected "auto", "float32" or "bfloat16", got "float16"/ },
    ],
    [
      "for no new tokens",
      () => generate([[5]], { maxNewTokens: 0 }),
      { name: "ConfigError", code: "E_CONFIG", message: /^maxNewTokens: expected a whole number of at least 1, got 0/ },
    ],
    [
      "for more new tokens at least than at most",
      () => generate([[5]], { maxNewTokens: 2, minNewTokens: 3 }),
      { name: "ConfigError", code: "E_CONFIG", message: /^minNewTokens: expected a whole number in \[0, maxNewTokens = 2\], got 3/ },
    ],
    [
      "for a negative temperature",
      () => generate([[5]], { temperature: -1 }),
      { name: "ConfigError", code: "E_CONFIG", message: /^temperature: expected a number of at least 0, got -1/ },
    ],
    [
      "for top-p of 0",
      () => generate([[5]], { topP: 0 }),
      { name: "ConfigError", code: "E_CONFIG", message: /^topP: expected a number in \(0, 1\], got 0/ },
    ],
    [
      "for stop strings without a tokenizer",
      () => generate([[5]], { stop: ["x"] }),
      {
        name: "ConfigError",
        code: "E_CONFIG",
        message: /^stop: stop strings need the text of an answer; make the engine with a tokenizer/,
      },
    ],
    [
      "for a prompt as long as the context",
      () => generate([new Array<number>(128).fill(5)], {}),
      {
        name: "ConfigError",
        code: "E_CONFIG",
        message: /^prompt 0 has 128 tokens, the model's context is 128 and must hold an answer too/,
      },
    ],
    [
      "for an empty prompt",
      () => generate([[]], {}),
      { name: "ConfigError", code: "E_CONFIG", message: /^prompt 0 is empty; give every prompt at least one token/ },
    ],
    [
      "for a token outside of the vocabulary",
      () => generate([[5, 400]], {}),
      { name: "RangeError", message: /^row 0 has token 400, the vocabulary ends at 399: was another model's tokenizer used\?/ },
    ],
    [
      "for rows of different lengths",
      async () => (await engine()).model.forward([[5, 6], [7]]),
      { name: "RangeError", message: /^row 1 has 1 tokens, row 0 has 2/ },
    ],
    [
      "for shapes that do not fit, naming both",
      async () => zeros([2, 3]).add(zeros([2, 4])),
      { name: "NativeError", code: "E_NATIVE", message: /^add\(float32\[2, 3\], float32\[2, 4\].*\): The size of tensor a \(3\)/ },
    ],
    [
      "for backward of what has no gradient",
      async () => tensor([1]).sum().backward(),
      { name: "NativeError", code: "E_NATIVE", message: /^backward\(float32\[\]\)/ },
    ],
    [
      "for nested arrays of unequal lengths",
      async () => tensor([[1, 2], [3]]),
      { name: "TypeError", message: /^tensor\(\): rows differ in length/ },
    ],
    ["for a promise under noGrad", async () => noGrad(async () => 1), { name: "TypeError", message: /noGrad/ }],
    [
      "for a tensor that was disposed of",
      async () => {
        const gone = tensor([1, 2]);
        gone.dispose();
        return gone.add(1);
      },
      {
        name: "NativeError",
        code: "E_NATIVE",
        message: /^add\(not a live tensor, 1\): this tensor was freed \(by tidy\(\) or dispose\(\)\)/,
      },
    ],
    [
      "for something else in place of a native tensor",
      async () => binding.shapeOf({} as TensorHandle),
      { name: "TypeError", code: "E_ARGUMENT", message: /^expected a tensor handle$/ },
    ],
  ])("%s", async (_name, action, { name, code, message }) => {
    const error = await rejection(action);
    expect(error.message).toMatch(message);
    expect(error.name).toBe(name);
    expect(error.code).toBe(code);
  });
});
