import { describe, expect, test } from "vitest";
import { type RotarySpec, rotaryFrequencies, rotaryTables } from "../../src/nn/rotary.ts";
import { tensor } from "../../src/tensor/create.ts";
import { assertClose } from "../assert-close.ts";
import { rotate } from "./plain-attention.ts";

const spec: RotarySpec = { dims: 8, theta: 100, scaling: { kind: "none" } };

describe("frequencies", () => {
  // theta^(-2i/dims) = 100^(-i/4): 1, 0.316, 0.1, 0.0316; wavelengths 6.28, 19.9, 62.8, 199
  const plain = [1, 10 ** -0.5, 0.1, 10 ** -1.5];

  test("are powers of theta", () => assertClose(rotaryFrequencies(spec), plain));

  test("are divided by the factor under linear scaling", () => {
    assertClose(
      rotaryFrequencies({ ...spec, scaling: { kind: "linear", factor: 4 } }),
      plain.map((f) => f / 4),
    );
  });

  test("of Llama 3 keep short wavelengths, divide long ones and blend between", () => {
    const scaling = { kind: "llama3", factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 32 } as const;
    // Kept below 32 / 4 = 8, divided above 32 / 1 = 32; 19.87 between: smooth = (32 / 19.87 - 1) / 3 = 0.2035
    const smooth = (32 / (2 * Math.PI * 10 ** 0.5) - 1) / 3;
    assertClose(rotaryFrequencies({ ...spec, scaling }), [1, 10 ** -0.5 * ((1 - smooth) / 8 + smooth), 0.1 / 8, 10 ** -1.5 / 8]);
  });

  test("of YaRN blend over dimensions that turn between betaSlow and betaFast times", () => {
    const scaling = {
      kind: "yarn",
      factor: 4,
      betaFast: 2,
      betaSlow: 0.5,
      originalMaxPositions: 16,
      attentionFactor: 1,
      truncate: true,
    } as const;
    // dimension(r) = 8 ln(16 / (2 pi r)) / (2 ln 100): 0.21 for r = 2 and 1.41 for r = 0.5; truncated 0 and 2: ramp 0, 1/2, 1, 1
    assertClose(rotaryFrequencies({ ...spec, scaling }), [1, 10 ** -0.5 * (1 / 2 + 1 / 8), 0.1 / 4, 10 ** -1.5 / 4]);
    const low = (8 * Math.log(16 / (4 * Math.PI))) / (2 * Math.log(100)),
      high = (8 * Math.log(16 / Math.PI)) / (2 * Math.log(100));
    const ramp = [0, (1 - low) / (high - low), 1, 1];
    assertClose(
      rotaryFrequencies({ ...spec, scaling: { ...scaling, truncate: false } }),
      plain.map((f, i) => f * (1 - (ramp[i] ?? 0)) + (f / 4) * (ramp[i] ?? 0)),
    );
  });
});

describe("tables", () => {
  const small: RotarySpec = { dims: 4, theta: 10000, scaling: { kind: "none" } }; // frequencies 1 and 0.01

  test("hold cos and sin of position times frequency, for each element and with the sign of its partner", () => {
    const { cos, signedSin } = rotaryTables(small, 4, "float32"), positions = [0, 1, 2, 3];
    const table = (f: (angle: number) => number, sign: number) =>
      positions.map((p) => [sign * f(p), sign * f(0.01 * p), f(p), f(0.01 * p)]);
    assertClose(cos, table(Math.cos, 1), { atol: 1e-6 });
    assertClose(signedSin, table(Math.sin, -1), { atol: 1e-6 });
  });

  test("turn dimension i against i + dims / 2", () => {
    const { cos, signedSin } = rotaryTables(small, 4, "float32");
    const rotated = rotate(tensor([[[5, 6, 7, 8]]]), { cos: cos.slice(0, 3), signedSin: signedSin.slice(0, 3) });
    // (5, 7) by 3, (6, 8) by 0.03 radians
    const [c, s, d, t] = [Math.cos(3), Math.sin(3), Math.cos(0.03), Math.sin(0.03)];
    assertClose(rotated, [[[5 * c - 7 * s, 6 * d - 8 * t, 7 * c + 5 * s, 8 * d + 6 * t]]], { atol: 1e-5 });
  });

  test("are scaled under YaRN, and as wide as what is rotated", () => {
    const scaling = {
      kind: "yarn", factor: 1, betaFast: 32, betaSlow: 1, originalMaxPositions: 64, attentionFactor: 2, truncate: true,
    } as const;
    const { cos, signedSin } = rotaryTables({ dims: 2, theta: 10000, scaling }, 2, "float32");
    const [c, s] = [2 * Math.cos(1), 2 * Math.sin(1)];
    assertClose(cos, [[2, 2], [c, c]], { atol: 1e-6 });
    assertClose(signedSin, [[0, 0], [-s, s]], { atol: 1e-6 });
  });

  test("are computed in float32 for a bfloat16 model: position 1001 is not 1000", () => {
    const { cos } = rotaryTables({ ...small, dims: 2 }, 1002, "bfloat16");
    expect([cos.dtype, cos.shape]).toEqual(["bfloat16", [1002, 2]]);
    assertClose(cos.slice(0, 1001), [[Math.cos(1001), Math.cos(1001)]], { rtol: 2 ** -8 });
  });
});
