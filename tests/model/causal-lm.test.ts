import { describe, expect, test } from "vitest";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { tensor } from "../../src/tensor/create.ts";
import { collectGarbage, tensorMemory } from "../../src/tensor/system.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { assertClose } from "../assert-close.ts";
import { temporaryFolder } from "../temporary-folder.ts";
import { type TinyModelOptions, writeTinyModel } from "./tiny-model.ts";

const load = (options: TinyModelOptions, dtype: "float32" | "bfloat16" = "float32") =>
  CausalLM.load(writeTinyModel(temporaryFolder(), options), { dtype });

const rows = [
  [5, 6, 7, 8, 9, 10],
  [11, 12],
  [13, 14, 15, 16],
];
const left = {
  tokens: [
    [5, 6, 7, 8, 9, 10],
    [0, 0, 0, 0, 11, 12],
    [0, 0, 13, 14, 15, 16],
  ],
  attentionMask: [
    [1, 1, 1, 1, 1, 1],
    [0, 0, 0, 0, 1, 1],
    [0, 0, 1, 1, 1, 1],
  ],
};
const right = {
  tokens: [
    [5, 6, 7, 8, 9, 10],
    [11, 12, 0, 0, 0, 0],
    [13, 14, 15, 16, 0, 0],
  ],
  attentionMask: [
    [1, 1, 1, 1, 1, 1],
    [1, 1, 0, 0, 0, 0],
    [1, 1, 1, 1, 0, 0],
  ],
};
const between = {
  tokens: [
    [5, 6, 7, 8, 9, 10],
    [0, 11, 0, 0, 12, 0],
    [13, 0, 14, 0, 15, 16],
  ],
  attentionMask: [
    [1, 1, 1, 1, 1, 1],
    [0, 1, 0, 0, 1, 0],
    [1, 0, 1, 0, 1, 1],
  ],
};

/** Log-softmax on plain numbers, in float64. */
function logSoftmax(logits: readonly number[]): number[] {
  const largest = Math.max(...logits);
  const normaliser = largest + Math.log(logits.reduce((sum, x) => sum + Math.exp(x - largest), 0));
  return logits.map((x) => x - normaliser);
}

/** Logits of one row without padding, [seq][vocab]. */
function logitsOf(model: CausalLM, row: readonly number[]): number[][] {
  const [logits] = noGrad(() => model.forward([row])).toArray() as number[][][];
  return logits ?? [];
}

describe.each<[string, TinyModelOptions]>([
  ["llama", { family: "llama" }],
  ["opt", { family: "opt" }],
])("a padded batch of %s", (_family, options) => {
  test.each([
    ["left", left],
    ["right", right],
    ["between", between],
  ])("padded on the %s gives the logits of its rows alone, and zeros at the padding", async (_side, { tokens, attentionMask }) => {
    const model = await load(options);
    const grid = noGrad(() => model.forward(tokens, { attentionMask })).toArray() as number[][][];
    for (const [i, row] of rows.entries()) {
      const counted = grid[i]?.filter((_, t) => attentionMask[i]?.[t] === 1) ?? [];
      assertClose(counted, logitsOf(model, row), { atol: 1e-5 });
      for (const [t, logits] of (grid[i] ?? []).entries()) if (attentionMask[i]?.[t] === 0) expect(logits.every((x) => x === 0)).toBe(true);
    }
  });

  test("gives log-probabilities in the column before their token, zero where nothing is predicted", async () => {
    const model = await load(options);
    for (const { tokens, attentionMask } of [left, right, between]) {
      const logprobs = noGrad(() => model.logprobs(tokens, { attentionMask, temperature: 0.8 })).toArray() as number[][];
      const expected = tokens.map((row) => new Array<number>(row.length - 1).fill(0));
      for (const [i, row] of rows.entries()) {
        const columns = (attentionMask[i] ?? []).flatMap((mask, column) => (mask === 1 ? [column] : []));
        const logits = logitsOf(model, row);
        for (let t = 1; t < row.length; t++) {
          const place = expected[i];
          if (place) place[(columns[t] ?? 0) - 1] = logSoftmax((logits[t - 1] ?? []).map((x) => x / 0.8))[row[t] ?? 0] ?? Number.NaN;
        }
      }
      assertClose(logprobs, expected, { atol: 1e-5 });
    }
  });

  test("a later token changes nothing before it", async () => {
    const model = await load(options);
    const before = logitsOf(model, [5, 6, 7, 8]),
      after = logitsOf(model, [5, 6, 7, 20]);
    assertClose(after.slice(0, 3), before.slice(0, 3), { atol: 1e-5 });
    expect(Math.max(...(after[3] ?? []).map((x, token) => Math.abs(x - (before[3]?.[token] ?? 0))))).toBeGreaterThan(0.1);
  });
});

test("tokens and masks of any numeric or bool kind mean the same", async () => {
  const model = await load({ family: "llama" });
  const expected = noGrad(() => model.logprobs(left.tokens, left));
  const masks = [
    left.attentionMask.map((row) => row.map((x) => x === 1)),
    tensor(left.attentionMask),
    tensor(left.attentionMask, { dtype: "bool" }),
  ];
  for (const dtype of ["int64", "int32", "float32"] as const) {
    for (const attentionMask of masks)
      expect(noGrad(() => model.logprobs(tensor(left.tokens, { dtype }), { attentionMask })).toArray()).toEqual(expected.toArray());
  }
});

test("the loss is the mean over all counted tokens but first ones, whatever the padding", async () => {
  const model = await load({ family: "opt" });
  const logprobs = rows.flatMap((row) => {
    const logits = logitsOf(model, row);
    return row.slice(1).map((token, t) => logSoftmax(logits[t] ?? [])[token] ?? Number.NaN);
  });
  const mean = -logprobs.reduce((sum, x) => sum + x, 0) / logprobs.length; // over 5 + 1 + 3 tokens, not over rows
  for (const batch of [left, right, between]) assertClose(model.loss(batch.tokens, batch).item(), mean, { atol: 1e-5 });
});

test("only the tokens that count are scored, at the given temperature, with entropies", async () => {
  const model = await load({ family: "llama" });
  const counts = [
    [true, false, true, false, false, true],
    [true, true],
    [false, false, false, true],
  ];
  const { logprobs, entropies } = noGrad(() => model.tokenLogprobs(rows, { counts, temperature: 0.5, entropies: true }));
  if (!entropies) throw new Error("entropies were asked for");
  const distributions = rows.flatMap((row, i) => {
    const logits = logitsOf(model, row).map((at) => logSoftmax(at.map((x) => x / 0.5)));
    return row.flatMap((token, t) => (t > 0 && counts[i]?.[t] ? [{ token, logs: logits[t - 1] ?? [] }] : []));
  });
  expect(distributions).toHaveLength(4); // tokens 2 and 5 of row 0, 1 of row 1, 3 of row 2; a first token is never scored
  assertClose(
    logprobs,
    distributions.map(({ token, logs }) => logs[token] ?? Number.NaN),
    { atol: 1e-5 },
  );
  assertClose(
    entropies,
    distributions.map(({ logs }) => -logs.reduce((sum, x) => sum + Math.exp(x) * x, 0)),
    { atol: 1e-5 },
  );
  expect(() => model.tokenLogprobs([[5], [6]])).toThrow(
    expect.objectContaining({ name: "RangeError", message: expect.stringMatching(/^no token is scored/) }),
  );
});

describe("gradients", () => {
  /** All gradients as plain numbers by name. */
  const gradientsOf = (model: CausalLM) => new Map([...model.gradients()].map(([name, gradient]) => [name, gradient.numbers()]));

  test("of two losses add up, and zeroGradients starts again", async () => {
    const model = await load({ family: "llama", config: { tie_word_embeddings: true } });
    const alone = rows.slice(0, 2).map((row) => {
      model.zeroGradients();
      model.loss([row]).backward();
      return gradientsOf(model);
    });
    model.zeroGradients();
    for (const row of rows.slice(0, 2)) model.loss([row]).backward();
    for (const [name, gradient] of gradientsOf(model)) {
      assertClose(
        gradient,
        gradient.map((_, i) => (alone[0]?.get(name)?.[i] ?? Number.NaN) + (alone[1]?.get(name)?.[i] ?? Number.NaN)),
        { atol: 1e-6 },
      );
    }
  });

  test("are slopes: a small step along the gradient changes the loss by its square", async () => {
    const model = await load({ family: "opt" });
    const loss = model.loss(right.tokens, right);
    loss.backward();
    // loss(w + e g) - loss(w - e g) = 2 e |g|^2 + O(e^3)
    const step = 1e-3;
    const squared = model.blocks.reduce((sum, { gradient }) => sum + (gradient?.norm().item() ?? Number.NaN) ** 2, 0);
    const moved = (scale: number) =>
      noGrad(() => {
        for (const { flat, gradient } of model.blocks) if (gradient) flat.add_(gradient, scale);
        return model.loss(right.tokens, right).item();
      });
    const above = moved(step),
      below = moved(-2 * step);
    assertClose((above - below) / (2 * step), squared, { rtol: 2e-2 });
  });

  test("of a bfloat16 model are float32 and near those of float32", async () => {
    const options: TinyModelOptions = { family: "llama", dtype: "bfloat16" };
    const [exact, half] = [await load(options), await load(options, "bfloat16")];
    for (const model of [exact, half]) model.loss(right.tokens, right).backward();
    expect(half.blocks.every(({ flat, gradient }) => flat.dtype === "bfloat16" && gradient?.dtype === "float32")).toBe(true);
    const expected = exact.gradients();
    for (const [name, gradient] of half.gradients()) {
      const wanted = expected.get(name);
      if (!wanted) throw new Error(`${name} has no gradient in float32`);
      // bfloat16 keeps 8 bits: 2^-9 = 0.002 a rounding, and some hundreds of roundings lie on the longest path.
      expect(gradient.sub(wanted).norm().item() / wanted.norm().item(), name).toBeLessThan(0.1);
    }
  });

  test("are refused by a frozen model", async () => {
    const model = (await load({ family: "llama" })).freeze();
    expect(() => model.loss([[5, 6]])).toThrow("a frozen model was asked for gradients");
    expect(model.gradients().size).toBe(0);
    expect(noGrad(() => model.logprobs([[5, 6]])).requiresGrad).toBe(false);
  });
});

test("what forward and backward leave behind in a synchronous loop is constant after the second step", async () => {
  const model = await load({ family: "llama" });
  const live: number[] = [];
  // A function of its own, so that no register of this one still holds what the step made.
  const step = (): void => model.loss(right.tokens, right).backward();
  for (let i = 0; i < 6; i++) {
    step();
    collectGarbage();
    live.push(tensorMemory().liveTensors);
  }
  expect(live.slice(2)).toEqual(new Array<number>(4).fill(live[1] ?? Number.NaN));
});

describe("refuses", () => {
  test("rows that do not fit the context, the vocabulary or each other", async () => {
    const model = await load({ family: "opt", config: { max_position_embeddings: 8 } });
    const refused = (run: () => Tensor, message: RegExp) =>
      expect(run).toThrow(expect.objectContaining({ name: "RangeError", message: expect.stringMatching(message) }));
    refused(() => model.forward([new Array<number>(9).fill(5)]), /^row 0 has 9 tokens, the model's context is 8$/);
    refused(
      () =>
        model.loss([
          [5, 6],
          [5, 96],
        ]),
      /^row 1 has token 96, the vocabulary ends at 95: was another model's tokenizer used\?$/,
    );
    refused(() => model.logprobs([[5, -1]]), /^row 0 has token -1, /);
    refused(() => model.forward([[5, 6], [7]]), /^row 1 has 1 tokens, row 0 has 2: pad the rows to one length and pass an attentionMask$/);
    refused(() => model.forward([[5, 6]], { attentionMask: [[1]] }), /^attentionMask row 0 has 1 entries, its tokens 2$/);
    refused(
      () =>
        model.forward([[5, 6]], {
          attentionMask: [
            [1, 1],
            [1, 1],
          ],
        }),
      /^attentionMask has 2 rows, tokens have 1$/,
    );
    refused(
      () =>
        model.forward(
          [
            [5, 6],
            [7, 8],
          ],
          {
            attentionMask: [
              [1, 1],
              [0, 0],
            ],
          },
        ),
      /^sequence 1 is empty: every sequence needs at least one token$/,
    );
  });
});
