import { describe, expect, test } from "vitest";
import { ParameterBlock } from "../../src/nn/parameter-block.ts";
import { AdamW, type AdamWOptions } from "../../src/optim/adamw.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { tensor } from "../../src/tensor/create.ts";
import { assertClose } from "../assert-close.ts";
import { failure } from "../failure.ts";

const options: AdamWOptions = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1 };
const matrix = [
    [0.5, -1, 2],
    [0.25, 1.5, -0.75],
  ],
  bias = [1, -2, 0.125];
/** Gradients of matrix and bias in each step. */
const gradients = [
  {
    matrix: [
      [1, -2, 0.5],
      [0, 3, -1],
    ],
    bias: [0.1, 0.2, -4],
  },
  {
    matrix: [
      [-1, 0.5, 0.25],
      [2, 2, 0],
    ],
    bias: [-0.3, 1, 1],
  },
  {
    matrix: [
      [0.1, 0.1, -3],
      [-1, 0, 0.5],
    ],
    bias: [2, 0, 0.5],
  },
  {
    matrix: [
      [4, -1, 1],
      [0.2, -0.7, 1],
    ],
    bias: [0, -1, 0.25],
  },
];
const rates = [1e-2, 2e-2, 5e-3, 1e-2];

/** Algorithm 2 of arXiv:1711.05101 for one number, in float64. */
function plainAdamW(start: number, slopes: readonly number[], decay: number): number {
  const { beta1, beta2, epsilon } = options;
  let w = start,
    m = 0,
    v = 0;
  for (const [i, g] of slopes.entries()) {
    const rate = rates[i] ?? 0,
      t = i + 1;
    m = beta1 * m + (1 - beta1) * g;
    v = beta2 * v + (1 - beta2) * g * g;
    w = w - rate * decay * w - (rate * (m / (1 - beta1 ** t))) / (Math.sqrt(v / (1 - beta2 ** t)) + epsilon);
  }
  return w;
}

/** A block of the matrix and the bias above, ready to train. */
function makeBlock(dtype: "float32" | "bfloat16"): ParameterBlock {
  const block = new ParameterBlock(
    "test",
    [
      { name: "bias", shape: [3] },
      { name: "matrix", shape: [2, 3] },
    ],
    dtype,
  );
  block.enableGradients();
  setLeaves(block, block.flat, { matrix, bias });
  return block;
}

function setLeaves(block: ParameterBlock, flat: ParameterBlock["flat"], values: { matrix: number[][]; bias: number[] }): void {
  noGrad(() => {
    block.viewOf(flat, "matrix").copy_(tensor(values.matrix));
    block.viewOf(flat, "bias").copy_(tensor(values.bias));
  });
}

/** All steps on one block, with the float32 start `master` where the block is in bfloat16. */
function train(block: ParameterBlock, count = gradients.length): AdamW {
  const optimizer = new AdamW([block], ({ flat }) => flat.to("float32").clone(), options);
  for (const [i, values] of gradients.slice(0, count).entries()) {
    if (block.gradient) setLeaves(block, block.gradient, values);
    optimizer.step(rates[i] ?? 0);
  }
  return optimizer;
}

/** Nearest bfloat16, ties to even: the upper half of a float32. */
function toBfloat16(x: number): number {
  const bits = new Uint32Array(Float32Array.of(x).buffer)[0] ?? 0;
  return new Float32Array(Uint32Array.of(((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) << 16).buffer)[0] ?? Number.NaN;
}

describe("AdamW", () => {
  test("moves parameters as the published algorithm does, and decays matrices only", () => {
    const block = makeBlock("float32");
    const optimizer = train(block);
    expect(optimizer.numSteps).toBe(4);
    const expectedMatrix = matrix.map((row, i) =>
      row.map((w, j) =>
        plainAdamW(
          w,
          gradients.map((g) => g.matrix[i]?.[j] ?? 0),
          0.1,
        ),
      ),
    );
    const expectedBias = bias.map((w, j) =>
      plainAdamW(
        w,
        gradients.map((g) => g.bias[j] ?? 0),
        0,
      ),
    );
    assertClose(block.leaf("matrix").detach(), expectedMatrix, { rtol: 1e-5 });
    assertClose(block.leaf("bias").detach(), expectedBias, { rtol: 1e-5 });
  });

  test("leaves the gradients as they are, and the padding between leaves zero", () => {
    const block = makeBlock("float32");
    train(block, 1);
    assertClose(block.viewOf(block.gradient ?? block.flat, "matrix"), gradients[0]?.matrix ?? []);
    const parameters = new Set([...block.viewOf(block.flat, "matrix").numbers(), ...block.viewOf(block.flat, "bias").numbers()]);
    expect(block.flat.numbers().filter((x) => x !== 0)).toHaveLength(parameters.size);
  });

  test("in bfloat16 keeps a master that goes as in float32 bit for bit, and rounds it into the block", () => {
    // All starting values have few bits, so both masters start equal.
    const [exact, half] = [makeBlock("float32"), makeBlock("bfloat16")];
    train(exact);
    const [state] = train(half).states;
    expect(half.flat.dtype).toBe("bfloat16");
    expect(state?.master.dtype).toBe("float32");
    expect(state?.master.numbers()).toEqual(exact.flat.numbers());
    expect(half.flat.numbers()).toEqual(exact.flat.numbers().map(toBfloat16));
  });

  test("in bfloat16 adds up steps that are too small to change a rounded parameter", () => {
    const block = new ParameterBlock("one", [{ name: "weight", shape: [1, 1] }], "bfloat16");
    block.enableGradients();
    noGrad(() => block.leaf("weight").fill_(1));
    const optimizer = new AdamW([block], ({ flat }) => flat.to("float32").clone(), { ...options, weightDecay: 0 });
    noGrad(() => block.gradient?.fill_(1));
    const seen: number[] = [];
    for (let step = 0; step < 5; step++) {
      optimizer.step(1e-3); // a constant gradient moves by the learning rate
      seen.push(block.leaf("weight").item());
    }
    // 0.999, 0.998, .. in bfloat16, whose numbers below 1 are 2^-8 = 0.0039 apart: 1 - 0.002 is past the middle
    expect(seen).toEqual([1, 0.99609375, 0.99609375, 0.99609375, 0.99609375]);
  });

  test("refuses a block without gradients", () => {
    const block = new ParameterBlock("frozen", [{ name: "weight", shape: [1, 1] }], "float32");
    const optimizer = new AdamW([block], ({ flat }) => flat, options);
    expect(failure(() => optimizer.step(1))).toEqual({
      name: "Error",
      code: undefined,
      message: 'internal: block "frozen" is trained but has no gradient',
    });
  });
});
