import { describe, expect, test } from "vitest";
import { binding } from "../../src/native/binding.ts";
import { manualSeed } from "../../src/tensor/autograd.ts";
import { Generator, rand, randint, randn } from "../../src/tensor/create.ts";
import { operator } from "../../src/tensor/operator.ts";
import { Tensor } from "../../src/tensor/tensor.ts";

describe("generators", () => {
  test("a saved state continues with the same numbers, in another generator too", () => {
    const generator = new Generator(42);
    randn([5], generator); // an odd count leaves half a Box-Muller pair in the state
    const saved = generator.state;
    const expected = [randn([5], generator).toArray(), randint(0, 1000, [5], generator).toArray()];
    generator.state = saved;
    expect([randn([5], generator).toArray(), randint(0, 1000, [5], generator).toArray()]).toEqual(expected);
    const other = new Generator(7);
    other.state = saved;
    expect([randn([5], other).toArray(), randint(0, 1000, [5], other).toArray()]).toEqual(expected);
    expect(saved.dtype).toBe("uint8");
  });

  test("generators do not disturb each other, and seeds differ", () => {
    const [a, b] = [new Generator(1), new Generator(1)];
    const first = rand([3], a).toArray();
    rand([100], new Generator(2));
    expect(rand([3], b).toArray()).toEqual(first);
    expect(rand([3], new Generator(2)).toArray()).not.toEqual(first);
  });

  test("ranges and dtypes", () => {
    const generator = new Generator(1);
    const whole = randint(-2, 3, [500], generator);
    expect([whole.dtype, [...new Set(whole.numbers())].sort((a, b) => a - b)]).toEqual(["int64", [-2, -1, 0, 1, 2]]);
    const uniform = rand([500], generator, "float64").numbers();
    expect(uniform.every((x) => x >= 0 && x < 1)).toBe(true);
    // mean of 4,000 standard normal numbers: 0 with a standard error of 0.016
    expect(Math.abs(randn([4000], generator).mean().item())).toBeLessThan(0.08);
  });

  test("manualSeed and the default generator's state drive what is given no generator", () => {
    const dropout = operator("dropout");
    const draw = (): number[] =>
      new Tensor(dropout(new Tensor(binding.fromData(new Float32Array(64).fill(1), [64], "float32")).handle, 0.5, true)).numbers();
    manualSeed(9);
    const state = binding.generatorState(null);
    const first = draw();
    expect(draw()).not.toEqual(first);
    manualSeed(9);
    expect(draw()).toEqual(first);
    binding.setGeneratorState(null, state);
    expect(draw()).toEqual(first);
  });

  test("a state that is none is refused", () => {
    const generator = new Generator(1);
    expect(() => {
      generator.state = rand([3], generator);
    }).toThrow(expect.objectContaining({ code: "E_NATIVE" }));
  });
});
