import { spawn } from "node:child_process";
import { once } from "node:events";
import { types } from "node:util";
import { describe, expect, test } from "vitest";
import { binding, bindingNames, torchMinor, type NativeArgument, type TensorHandle } from "../../src/native/binding.ts";

const add = binding.findOp("aten::add", "Tensor");
const floats = (...numbers: number[]): TensorHandle => binding.fromData(Float32Array.from(numbers), [numbers.length], "float32");
const notATensor = (value: unknown): TensorHandle => value as TensorHandle;
const wrongKind = { name: "TypeError", code: "E_ARGUMENT" };

describe("the contract with the addon", () => {
  test("the addon exports every name of the contract and no other", () => {
    expect(Object.keys(binding).sort()).toEqual([...bindingNames].sort());
    expect(bindingNames.filter((name) => typeof binding[name] !== "function")).toEqual([]);
  });

  test("the addon was built for the libtorch that is loaded", () => {
    expect(binding.torchVersion()).toMatch(new RegExp(`^${torchMinor.replace(".", "\\.")}\\.`));
    expect(binding.countOps()).toBeGreaterThan(3000);
  });

  test("schemas come as libtorch declares them", () => {
    expect(binding.schemaOf(add)).toBe("aten::add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor");
  });
});

describe("handles", () => {
  test.each([
    ["undefined", undefined],
    ["null", null],
    ["a number", 7],
    ["a string", "tensor"],
    ["an object", {}],
    ["an array", [1]],
    ["a typed array", new Float32Array(2)],
    ["a generator's handle", binding.createGenerator(1)],
  ])("%s is refused where a tensor is expected", (_, value) => {
    for (const use of [
      () => binding.shapeOf(notATensor(value)),
      () => binding.freeTensor(notATensor(value)),
      () => binding.gradOf(notATensor(value)),
    ]) {
      expect(use).toThrow(expect.objectContaining({ ...wrongKind, message: "expected a tensor handle" }));
    }
    expect(() => binding.callOp(add, floats(1), value as NativeArgument)).toThrow(expect.objectContaining(wrongKind));
  });

  test("an external that is not ours is refused instead of being read as a tensor", async () => {
    // Node's own streams carry one: a pointer without our tag.
    const child = spawn(process.execPath, ["--version"]);
    const foreign = (child.stdout as unknown as { _handle: { _externalStream: unknown } })._handle._externalStream;
    expect(types.isExternal(foreign)).toBe(true);
    expect(() => binding.shapeOf(notATensor(foreign))).toThrow(
      expect.objectContaining({ ...wrongKind, message: "expected a tensor handle" }),
    );
    expect(() => binding.generatorState(foreign as never)).toThrow(expect.objectContaining(wrongKind));
    await once(child, "close");
  });

  test("a tensor's handle is refused where a generator is expected", () => {
    expect(() => binding.generatorState(floats(1) as never)).toThrow(
      expect.objectContaining({ ...wrongKind, message: "expected a generator handle" }),
    );
  });

  test("a freed tensor is refused by every use; a second free does nothing", () => {
    const tensor = floats(1, 2);
    binding.freeTensor(tensor);
    binding.freeTensor(tensor);
    for (const use of [
      () => binding.toData(tensor),
      () => binding.shapeOf(tensor),
      () => binding.callOp(add, tensor, floats(1)),
      () => binding.backward([tensor], [null]),
    ]) {
      expect(use).toThrow(
        expect.objectContaining({ ...wrongKind, message: "this tensor was freed (by tidy() or dispose()) and cannot be used any more" }),
      );
    }
  });

  test("freeing takes back the bytes that were reported", () => {
    const before = binding.tensorMemory().liveBytes;
    const tensor = binding.fromData(new Float32Array(2 ** 18), [2 ** 18], "float32");
    expect(binding.tensorMemory().liveBytes - before).toBeGreaterThanOrEqual(2 ** 20);
    binding.freeTensor(tensor);
    expect(binding.tensorMemory().liveBytes).toBeLessThanOrEqual(before);
  });
});

describe("errors", () => {
  test("an unknown operator is named", () => {
    expect(() => binding.findOp("aten::no_such_thing", "")).toThrow(
      expect.objectContaining({ ...wrongKind, message: "libtorch has no operator aten::no_such_thing" }),
    );
    expect(() => binding.findOp("aten::add", "Nonsense")).toThrow(
      expect.objectContaining({ ...wrongKind, message: "libtorch has no operator aten::add.Nonsense" }),
    );
  });

  test("a number that is no operator handle is refused", () => {
    expect(() => binding.callOp(1e6 as never)).toThrow(expect.objectContaining({ ...wrongKind, message: "expected an operator handle" }));
    expect(() => binding.callOp(-1 as never)).toThrow(expect.objectContaining(wrongKind));
  });

  test("a refusal of libtorch carries its reason and no C++ trace", () => {
    expect(() => binding.callOp(add, floats(1, 2), floats(1, 2, 3))).toThrow(
      expect.objectContaining({
        name: "Error",
        code: "E_NATIVE",
        message: expect.stringMatching(/^The size of tensor a \(2\) must match the size of tensor b \(3\)/),
      }),
    );
    try {
      binding.callOp(add, floats(1, 2), floats(1, 2, 3));
    } catch (error) {
      expect(String((error as Error).message)).not.toMatch(/Exception raised from|frame #|\.cpp/);
    }
  });

  test("an allocation that cannot succeed is E_MEMORY", () => {
    const empty = binding.findOp("aten::empty", "memory_format");
    expect(() => binding.callOp(empty, [2 ** 40, 2 ** 10], "float32")).toThrow(
      expect.objectContaining({ code: "E_MEMORY", message: expect.stringMatching(/memory/) }),
    );
  });

  test("a missing argument is named, and so are too many", () => {
    expect(() => binding.callOp(add, floats(1))).toThrow(expect.objectContaining({ ...wrongKind, message: 'argument "other" is missing' }));
    expect(() => binding.callOp(add, floats(1), floats(1), 1, 1)).toThrow(
      expect.objectContaining({ ...wrongKind, message: "the operator takes 3 arguments" }),
    );
  });

  test("data that does not fill the shape is refused, and so is an unknown dtype", () => {
    expect(() => binding.fromData(new Float32Array(3), [2, 2], "float32")).toThrow(
      expect.objectContaining({ ...wrongKind, message: "the shape holds 4 elements, the data 3" }),
    );
    expect(() => binding.fromData(new Float32Array(1), [1], "float8" as never)).toThrow(
      expect.objectContaining({ ...wrongKind, message: "unknown dtype float8" }),
    );
    expect(() => binding.fromData(new Uint16Array(1), [1], "float32")).toThrow(expect.objectContaining(wrongKind));
  });
});
