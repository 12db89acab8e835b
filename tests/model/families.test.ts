import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { HybridEngine } from "../../src/engine/hybrid-engine.ts";
import { compareModes } from "../../src/engine/self-check.ts";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { families } from "../../src/model/families/registry.ts";
import { checkpointingRunner, type LayerRunner, plainRunner } from "../../src/model/layer-runner.ts";
import { RewardModel } from "../../src/model/reward-model.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { rejection } from "../failure.ts";
import { temporaryFolder } from "../temporary-folder.ts";
import { readTensors, writeTensors } from "./safetensors-file.ts";

const GOLDENS = fileURLToPath(new URL("../fixtures/goldens", import.meta.url));
const folders = readdirSync(GOLDENS).filter((name) => existsSync(join(GOLDENS, name, "golden.safetensors")));
const tensorsIn = (folder: string) => readTensors(join(folder, "model.safetensors"));
const configIn = (folder: string) => JSON.parse(readFileSync(join(folder, "config.json"), "utf8")) as Record<string, unknown>;
const rows = [[5, 6, 7, 8, 9, 10, 11, 12, 13], [20, 21]];

/** A folder with other tensors or another configuration. */
function changed(path: string, tensors = tensorsIn(path), config: object = configIn(path)): string {
  const folder = temporaryFolder();
  writeTensors(join(folder, "model.safetensors"), tensors);
  writeFileSync(join(folder, "config.json"), JSON.stringify(config));
  return folder;
}

describe.each(folders)("%s", (name) => {
  const path = join(GOLDENS, name);
  const load = (folder = path, adapter?: string) => CausalLM.load(folder, { dtype: "float32", adapter });
  const logitsOf = (model: CausalLM) => noGrad(() => model.tokenLogprobs(rows).logprobs.numbers());
  const family = families.find(({ modelType }) => modelType === configIn(path).model_type);

  test("is saved as it was, name by name and bit by bit", async () => {
    const folder = temporaryFolder();
    await (await load()).save(folder);
    expect(new Map([...tensorsIn(folder)].sort())).toEqual(new Map([...tensorsIn(path)].sort()));
    expect(configIn(folder).architectures).toEqual(configIn(path).architectures);
    expect(logitsOf(await load(folder))).toEqual(logitsOf(await load()));
  });

  test("comes from a bare decoder's file too, whose names lack the prefix", async () => {
    const prefix = family?.prefix ?? "";
    const bare = new Map([...tensorsIn(path)].map(([key, tensor]) => [key.startsWith(prefix) ? key.slice(prefix.length) : key, tensor]));
    expect(logitsOf(await load(changed(path, bare)))).toEqual(logitsOf(await load()));
  });

  test("samples with adapters, which a PEFT folder brings back", async () => {
    const model = await load(), folder = temporaryFolder();
    const lora = model.addLora({ rank: 2, alpha: 8, targets: "all-linear", seed: 3 });
    noGrad(() => {
      for (const [i, { parameters }] of lora.layers.entries()) {
        for (const matrix of parameters.matrixNames) if (matrix.endsWith("B")) parameters.leaf(matrix).fill_(0.02 * (i + 1));
      }
    });
    lora.merge();
    const adapted = logitsOf(model);
    expect(adapted).not.toEqual(logitsOf(await load()));
    model.saveAdapter(folder);
    const merged = logitsOf(await load(path, folder));
    for (const [i, value] of merged.entries()) expect(value).toBeCloseTo(adapted[i] ?? Number.NaN, 4);
    const { responses } = new HybridEngine(model).generate([[5, 6, 7]], { maxNewTokens: 4, temperature: 0, eosTokenId: null });
    expect(responses[0]).toHaveLength(4);
  });

  test("generates with the bits of training in bfloat16, and with int8 weights near them", async () => {
    const model = await CausalLM.load(path, { dtype: "bfloat16" });
    expect(compareModes(model).largest).toBe(0);
    const engine = new HybridEngine(model, { weights: "int8" });
    const { logprobs: sampled, sequences } = engine.generate([[5, 6, 7]], { maxNewTokens: 6, eosTokenId: null, seed: 4 });
    const exact = noGrad(() => model.tokenLogprobs(sequences).logprobs.numbers().slice(-6));
    for (const [i, value] of (sampled[0] ?? []).entries()) expect(Math.abs(value - (exact[i] ?? Number.NaN))).toBeLessThan(0.5);
  });

  test("has the same gradients when layers are computed again going backward", async () => {
    const gradientsOf = async (runner: LayerRunner) => {
      const model = await load();
      model.runner = runner;
      model.loss(rows.map((row) => row.slice(0, 2))).backward();
      return new Map([...model.gradients()].map(([key, gradient]) => [key, gradient.numbers()]));
    };
    expect(await gradientsOf(checkpointingRunner)).toEqual(await gradientsOf(plainRunner));
  });

  test("becomes a reward model and comes back from its folder", async () => {
    const reward = await RewardModel.withNewHead(path, { dtype: "float32", head: { seed: 1 } }), folder = temporaryFolder();
    await reward.save(folder, { padTokenId: 0 });
    expect(configIn(folder).architectures).toEqual([`${family?.className}ForSequenceClassification`]);
    const scores = noGrad(() => reward.scoreRows(rows).numbers());
    expect(scores[0]).not.toBe(scores[1]);
    const again = await RewardModel.load(folder, { dtype: "float32" });
    expect(noGrad(() => again.scoreRows(rows).numbers())).toEqual(scores);
  });

  test("with an option that its family does not know is refused by name", async () => {
    const { message } = await rejection(() => load(changed(path, undefined, { ...configIn(path), attention_dilation: 2 })));
    expect(message).toContain('config.json: "attention_dilation": 2 is no option that tschat knows for ');
  });
});

test.each<[string, object, string]>([
  ["tiny-gemma3", { use_bidirectional_attention: true }, '"use_bidirectional_attention": expected it to be off'],
  ["tiny-gemma2", { layer_types: ["full_attention"] }, '"layer_types": expected 2 times one of sliding_attention, full_attention'],
  ["tiny-gpt2", { add_cross_attention: true }, '"add_cross_attention": expected it to be off'],
  ["tiny-bloom-5-heads", { apply_residual_connection_post_layernorm: true }, "expected it to be off, since tschat does not compute it"],
  ["tiny-gpt-neo", { attention_layers: ["global", "sparse"] }, '"attention_layers": expected 2 times one of global, local'],
  ["tiny-falcon-40b", { num_kv_heads: 3 }, '"num_attention_heads" (4) must be a multiple of "num_kv_heads" (3)'],
  ["tiny-falcon-40b", { parallel_attn: false }, '"parallel_attn": expected true with "new_decoder_architecture", found false'],
  ["tiny-phi3-longrope", { rope_parameters: { rope_type: "longrope", short_factor: [1], long_factor: [1] } }, "numbers, found [1]"],
  ["tiny-mistral-window", { sliding_window: -1 }, '"sliding_window": expected a positive whole number, found -1'],
])("%s with %o is refused", async (name, options, message) => {
  const path = join(GOLDENS, name);
  const { message: found } = await rejection(() => CausalLM.load(changed(path, undefined, { ...configIn(path), ...options })));
  expect(found).toContain(message);
});

test.each<[string, object]>([
  ["tiny-gpt-neox", { rope_parameters: undefined, rotary_pct: 0.5, rotary_emb_base: 10000 }],
  ["tiny-gemma3", {
    rope_parameters: undefined, layer_types: undefined, sliding_window_pattern: 2, rope_theta: 1e6, rope_local_base_freq: 10000,
    rope_scaling: { rope_type: "linear", factor: 8 },
  }],
  ["tiny-phi3-longrope", {
    rope_parameters: undefined, rope_theta: 10000, partial_rotary_factor: 0.5,
    rope_scaling: { type: "su", short_factor: [1, 1.1], long_factor: [1.5, 4] },
  }],
  ["tiny-stablelm-parallel", { rope_parameters: undefined, rope_theta: 10000, partial_rotary_factor: 0.5, rope_scaling: null }],
  ["tiny-gpt-neo", { attention_layers: undefined }],
  ["tiny-qwen2-window", { layer_types: undefined, rope_parameters: undefined, rope_theta: 10000 }],
])("%s computes the same from the keys of transformers 4", async (name, options) => {
  const path = join(GOLDENS, name), model = await CausalLM.load(path, { dtype: "float32" });
  const old = await CausalLM.load(changed(path, undefined, { ...configIn(path), ...options }), { dtype: "float32" });
  expect(noGrad(() => old.tokenLogprobs(rows).logprobs.numbers())).toEqual(noGrad(() => model.tokenLogprobs(rows).logprobs.numbers()));
});

// What published files say besides the shape, written down from them.
test.each<[string, object]>([
  ["tiny-llama", {
    is_llama_config: true, rope_interleaved: false, "transformers.js_config": { dtype: "q4" }, pretraining_tp: 1, unsloth_version: "2024.9",
    max_sequence_length: 2048, _name_or_path: "x",
  }],
  ["tiny-gemma2", { cache_implementation: "hybrid", hidden_act: "gelu_pytorch_tanh", sliding_window_size: 5 }],
  ["tiny-phi3", { auto_map: { AutoConfig: "a.B" }, full_attn_mod: 1, interpolate_factor: 1, lm_head_bias: false, embd_pdrop: 0.1 }],
  ["tiny-opt", { learned_embeddings: true, scale_embeddings: false, prefix: "</s>", activation_dropout: 0.1 }],
  ["tiny-bloom-5-heads", { attention_softmax_in_fp32: true, bias_dropout_fusion: true, offset_alibi: 100, skip_bias_add: true }],
  ["tiny-gpt2", { n_ctx: 64, n_special: 0, predict_special_tokens: true, task_specific_params: { a: { do_sample: true } } }],
  ["tiny-gptj", { rotary: true, scale_attn_weights: true, gradient_checkpointing: false, summary_type: "cls_index" }],
  ["tiny-gpt-neox", { custom_pipelines: { "text-generation": { impl: "x" } }, classifier_dropout: 0.1 }],
  ["tiny-falcon-7b", { ff_factor: 4, apply_residual_connection_post_layernorm: false }],
  ["tiny-stablelm", { rotary_scaling_factor: 1, use_cache: true }],
])("%s loads with what its publishers wrote beside: %o", async (name, extra) => {
  const path = join(GOLDENS, name);
  await CausalLM.load(changed(path, undefined, { ...configIn(path), ...extra }));
});
