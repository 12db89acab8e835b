import { expect, test } from "vitest";
import { bothSpellings, configText } from "../../../src/model/formats/config-spelling.ts";

// The right sides are what transformers 4.57's configuration classes read.
test.each<[string, Record<string, unknown>, Record<string, unknown>]>([
  ["the dtype", { dtype: "float16" }, { dtype: "float16", torch_dtype: "float16" }],
  ["an old dtype", { torch_dtype: "float16" }, { dtype: "float16", torch_dtype: "float16" }],
  ["a new dtype over an old one", { dtype: "float32", torch_dtype: "float16" }, { dtype: "float32", torch_dtype: "float32" }],
  ["nothing where there is nothing", { model_type: "opt" }, { model_type: "opt" }],
  [
    "plain rotary positions",
    { rope_parameters: { rope_type: "default", rope_theta: 500 } },
    { rope_parameters: { rope_type: "default", rope_theta: 500 }, rope_theta: 500, rope_scaling: null },
  ],
  [
    "scaled ones",
    { rope_parameters: { rope_type: "linear", rope_theta: 500, factor: 2 } },
    {
      rope_parameters: { rope_type: "linear", rope_theta: 500, factor: 2 },
      rope_theta: 500,
      rope_scaling: { rope_type: "linear", factor: 2 },
    },
  ],
  [
    "partial ones",
    { model_type: "stablelm", rope_parameters: { rope_theta: 500, partial_rotary_factor: 0.25 } },
    {
      model_type: "stablelm",
      rope_parameters: { rope_theta: 500, partial_rotary_factor: 0.25 },
      rope_theta: 500,
      partial_rotary_factor: 0.25,
      rope_scaling: null,
    },
  ],
  [
    "those of GPT-NeoX, under names of its own",
    { model_type: "gpt_neox", rope_parameters: { rope_theta: 500, partial_rotary_factor: 0.5 } },
    {
      model_type: "gpt_neox",
      rope_parameters: { rope_theta: 500, partial_rotary_factor: 0.5 },
      rotary_emb_base: 500,
      rotary_pct: 0.5,
      rope_scaling: null,
    },
  ],
  [
    "those of Gemma 3, which are two",
    {
      rope_parameters: {
        full_attention: { rope_type: "linear", rope_theta: 1e6, factor: 8 },
        sliding_attention: { rope_type: "default", rope_theta: 1e4 },
      },
    },
    {
      rope_parameters: {
        full_attention: { rope_type: "linear", rope_theta: 1e6, factor: 8 },
        sliding_attention: { rope_type: "default", rope_theta: 1e4 },
      },
      rope_theta: 1e6,
      rope_local_base_freq: 1e4,
      rope_scaling: { rope_type: "linear", factor: 8 },
    },
  ],
  [
    "long ones of Phi-3, which must have three keys",
    {
      original_max_position_embeddings: 4096,
      rope_parameters: {
        rope_type: "longrope",
        type: "longrope",
        rope_theta: 1e4,
        short_factor: [1],
        long_factor: [2],
        partial_rotary_factor: 1,
      },
    },
    {
      original_max_position_embeddings: 4096,
      rope_parameters: {
        rope_type: "longrope",
        type: "longrope",
        rope_theta: 1e4,
        short_factor: [1],
        long_factor: [2],
        partial_rotary_factor: 1,
      },
      rope_theta: 1e4,
      partial_rotary_factor: 1,
      rope_scaling: { type: "longrope", short_factor: [1], long_factor: [2] },
    },
  ],
  [
    "the spelling of version 4, which version 5 reads",
    { rope_theta: 500, rope_scaling: { type: "linear", factor: 2 } },
    { rope_theta: 500, rope_scaling: { type: "linear", factor: 2 } },
  ],
])("%s", (_what, config, expected) => {
  expect(bothSpellings(config)).toEqual(expected);
});

test("whole numbers keep their point where transformers declares a float, and only there", () => {
  const config = {
    final_logit_softcapping: 30,
    rms_norm_eps: 1e-6,
    vocab_size: 64,
    query_pre_attn_scalar: 256,
    initializer_range: 1,
    rope_parameters: { rope_theta: 10000, factor: 8, low_freq_factor: 1.5, original_max_position_embeddings: 32 },
    note: '"factor": 3',
    temperature: 2,
  };
  expect(configText(config)).toBe(`{
  "final_logit_softcapping": 30.0,
  "rms_norm_eps": 0.000001,
  "vocab_size": 64,
  "query_pre_attn_scalar": 256,
  "initializer_range": 1.0,
  "rope_parameters": {
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.5,
    "original_max_position_embeddings": 32
  },
  "note": "\\"factor\\": 3",
  "temperature": 2.0
}
`);
});
