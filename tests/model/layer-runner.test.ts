import { expect, test } from "vitest";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { checkpointingRunner, type LayerRunner, plainRunner } from "../../src/model/layer-runner.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { tensorMemory } from "../../src/tensor/system.ts";
import { tidy } from "../../src/tensor/tidy.ts";
import { temporaryFolder } from "../temporary-folder.ts";
import { type TinyModelOptions, writeTinyModel } from "./tiny-model.ts";

const rows = [
  [5, 6, 7, 8, 9],
  [10, 11, 12, 13, 14],
];

test.each<[string, TinyModelOptions]>([
  ["llama", { family: "llama", config: { num_hidden_layers: 6 } }],
  ["llama with a tied head", { family: "llama", config: { tie_word_embeddings: true } }],
  [
    "opt with norms after the sum and narrow embeddings",
    { family: "opt", config: { do_layer_norm_before: false, word_embed_proj_dim: 16 } },
  ],
])("recomputing every block gives the loss and the gradients of keeping it, bit for bit: %s", async (_name, options) => {
  const model = await CausalLM.load(writeTinyModel(temporaryFolder(), options), { dtype: "float32" });
  const results = [plainRunner, checkpointingRunner].map((runner) => {
    model.runner = runner;
    model.zeroGradients();
    const loss = model.loss(rows);
    loss.backward();
    return { loss: loss.item(), gradients: [...model.gradients()].map(([name, gradient]) => [name, gradient.numbers()]) };
  });
  expect(results[1]).toEqual(results[0]);
});

test("a runner is given every block once, in the order of use, and the checkpointing one runs it again going backward", async () => {
  const model = await CausalLM.load(writeTinyModel(temporaryFolder(), { family: "llama" }), { dtype: "float32" });
  const calls: string[] = [];
  const recording: LayerRunner = {
    run: (block, forward, x) =>
      checkpointingRunner.run(
        block,
        (input) => {
          calls.push(block.name);
          return forward(input);
        },
        x,
      ),
  };
  model.runner = recording;
  const loss = model.loss(rows);
  expect(calls).toEqual(["embedding", "layer 0", "layer 1", "final"]);
  loss.backward();
  expect(calls.slice(4)).toEqual(["final", "layer 1", "layer 0"]); // token ids have no gradient, so the embedding is kept
  calls.length = 0;
  noGrad(() => model.logprobs(rows));
  expect(calls).toEqual(["embedding", "layer 0", "layer 1", "final"]);
});

test("going backward, every block's input is freed when the block is done, and nothing that was computed again stays", async () => {
  const config = { num_hidden_layers: 8 };
  const model = await CausalLM.load(writeTinyModel(temporaryFolder(), { family: "llama", config }), { dtype: "float32" });
  const alive: number[] = [];
  model.runner = {
    run: (block, forward, x) =>
      checkpointingRunner.run(
        block,
        (input) => {
          alive.push(tensorMemory().liveBytes);
          return forward(input);
        },
        x,
      ),
  };
  model.enableGradients();
  tidy(() => model.loss(rows).backward());
  // Embedding, 8 layers, final norm; then final norm and layers again.
  expect(alive).toHaveLength(10 + 9);
  const inputBytes = 10 * 32 * 4; // of 10 tokens, float32; a handle counts 512 bytes more
  const [first = 0, last = 0] = [alive[1], alive[9]];
  expect(last - first).toBeLessThan(8 * (inputBytes + 512) + 512); // going forward the inputs stay, one a block
  const [firstAgain = 0, lastAgain = 0] = [alive[10], alive[18]];
  expect(lastAgain - firstAgain).toBeLessThan(inputBytes); // going backward a gradient takes the place of each
});

test("an error while a block is recomputed reaches the caller of backward", async () => {
  const model = await CausalLM.load(writeTinyModel(temporaryFolder(), { family: "llama" }), { dtype: "float32" });
  let broken = false;
  model.runner = {
    run: (block, forward, x) =>
      checkpointingRunner.run(
        block,
        (input) => {
          if (broken && block.name === "layer 0") throw new RangeError("no such layer any more");
          return forward(input);
        },
        x,
      ),
  };
  const loss = model.loss(rows);
  broken = true;
  expect(() => loss.backward()).toThrow(expect.objectContaining({ name: "RangeError", message: "no such layer any more" }));
});
