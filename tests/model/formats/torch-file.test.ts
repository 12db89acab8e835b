import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join as joinPath } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { TorchFile } from "../../../src/model/formats/torch-file.ts";
import { failure } from "../../failure.ts";
import { temporaryFolder } from "../../temporary-folder.ts";
import {
  archive,
  call,
  floats,
  global,
  int,
  join,
  long,
  pickle,
  stateDict,
  tensorCall,
  text,
  tuple,
  u16,
  u32,
  u64,
  zip,
} from "./torch-archive.ts";

const fixture = (name: string) => fileURLToPath(new URL(`../../fixtures/torch-files/${name}`, import.meta.url));
const json = (name: string) => JSON.parse(readFileSync(fixture(name), "utf8")) as Record<string, never>;

function write(bytes: Uint8Array): string {
  const path = joinPath(temporaryFolder(), "pytorch_model.bin");
  writeFileSync(path, bytes);
  return path;
}
/** Shape and numbers of one tensor of a file, as its reader sees them. */
function weightOf(bytes: Uint8Array): unknown[] {
  const tensor = new TorchFile(write(bytes)).read("weight");
  return [tensor.shape, tensor.reshape([-1]).numbers()];
}

describe("what torch.save wrote is read", () => {
  // expected.json holds what torch itself has in these tensors: every dtype, transposed, sliced, shared, expanded, empty.
  test.each(["zip.bin", "legacy.bin"])("%s", (name) => {
    const file = new TorchFile(fixture(name));
    const found = file.names().map((tensor) => {
      const value = file.read(tensor);
      expect([file.dtype(tensor), file.shape(tensor)]).toEqual([value.dtype, value.shape]);
      return [tensor, { dtype: value.dtype, shape: value.shape, data: Array.from(value.reshape([-1]).numbers(), Number) }];
    });
    const expected = Object.entries(json("expected.json") as Record<string, { data: (number | boolean)[] }>);
    expect(found).toEqual(expected.map(([tensor, { data, ...rest }]) => [tensor, { ...rest, data: data.map(Number) }]));
  });

  test("the state dict of a module, which has an attribute", () => {
    const file = new TorchFile(fixture("module.bin"));
    expect(Object.fromEntries(file.names().map((name) => [name, file.read(name).toArray()]))).toEqual(json("module.json"));
  });

  test("an archive with zip64 records, and one with a comment behind it", () => {
    const expected = [
      [2, 2],
      [1, 2, 3, 4],
    ];
    const data = { 0: floats(1, 2, 3, 4) };
    expect(weightOf(archive(stateDict(tensorCall()), data, { zip64: true }))).toEqual(expected);
    const plain = archive(stateDict(tensorCall()));
    plain.writeUInt16LE(5, plain.length - 2);
    expect(weightOf(Buffer.concat([plain, Buffer.from("hello")]))).toEqual(expected);
  });

  test("a tensor at an odd byte", () => {
    // The longer name moves storage 0 by a byte each time, so float32 begins at every remainder of 4.
    for (const padding of ["", "a", "ab", "abc"]) {
      const file = new TorchFile(write(archive(pickle("}", text(`weight${padding}`), tensorCall(), "s"))));
      expect(file.read(`weight${padding}`).toArray()).toEqual([
        [1, 2],
        [3, 4],
      ]);
    }
  });
});

const tensorCalls = (parts: Parameters<typeof tensorCall>[0]) => archive(stateDict(tensorCall(parts)));
const evil = (...parts: (Buffer | string)[]) => archive(pickle(...parts));
const shellArgs = tuple(text("touch pwned"));

describe("a pickle that wants more than tensors is refused", () => {
  test.each([
    ["os-system", '"posix.system"'],
    ["os-system-legacy", '"posix.system"'],
    ["eval", '"__builtin__.eval"'],
    ["exec", '"__builtin__.exec"'],
    ["getattr", '"__builtin__.getattr"'],
  ])("%s.bin, made by Python", (name, asked) => {
    expect(failure(() => new TorchFile(fixture(`${name}.bin`)))).toEqual({
      name: "CheckpointError",
      code: "E_CHECKPOINT",
      message:
        `${fixture(`${name}.bin`)}: its pickle asks for ${asked}, which is no part of a tensor; a pickle can run any code, so ` +
        "tschat reads nothing but tensors from it: use the model's safetensors, or convert the file where you trust it",
    });
    expect(existsSync("pwned")).toBe(false);
  });

  test.each<[string, Buffer, RegExp]>([
    ["a class of torch that is no storage", evil(global("torch.nn", "Linear")), /asks for "torch\.nn\.Linear"/],
    [
      "a name with a path in it",
      evil(global("torch._utils", "_rebuild_tensor_v2.__globals__")),
      /"torch\._utils\._rebuild_tensor_v2\.__globals__"/,
    ],
    ["a name of JavaScript's objects", evil(global("__proto__", "constructor")), /asks for "__proto__\.constructor"/],
    ["a name of one part of the table's prototype", evil(global("", "constructor")), /asks for "\.constructor"/],
    ["STACK_GLOBAL", evil(text("builtins"), text("getattr"), "\x93"), /asks for "builtins\.getattr"/],
    ["STACK_GLOBAL of a nested name", evil(text("torch"), text("hub.load.__call__"), "\x93"), /asks for "torch\.hub\.load\.__call__"/],
    ["STACK_GLOBAL of no text", evil("]", "]", "\x93"), /asks for "STACK_GLOBAL"/],
    ["INST", evil("(", text("touch pwned"), "iposix\nsystem\n"), /asks for "posix\.system"/],
    ["OBJ", evil("(", global("collections", "OrderedDict"), "o"), /asks for "OBJ"/],
    ["NEWOBJ", evil(global("collections", "OrderedDict"), ")\x81"), /asks for "NEWOBJ"/],
    ["NEWOBJ_EX", evil(global("collections", "OrderedDict"), ")}\x92"), /asks for "NEWOBJ_EX"/],
    ["EXT1", evil("\x82\x01"), /asks for "EXT1"/],
    ["EXT2", evil("\x83\x01\x00"), /asks for "EXT2"/],
    ["EXT4", evil("\x84\x01\x00\x00\x00"), /asks for "EXT4"/],
    ["PERSID", evil("Pname\n"), /asks for "PERSID"/],
    ["an opcode of protocol 0", evil("I1\n"), /asks for "opcode 0x49"/],
    ["a bytearray of protocol 5", evil("\x96", u64(2 ** 40)), /asks for "opcode 0x96"/],
    ["the call of a class", evil(global("torch", "FloatStorage"), shellArgs, "R"), /asks for "torch\.FloatStorage", as a function/],
    ["the call of data", evil(text("x"), shellArgs, "R"), /asks for "string", as a function/],
    ["the call of a method of JavaScript", evil("]", shellArgs, "R"), /asks for "object", as a function/],
    ["a dictionary of something", evil(call("collections", "OrderedDict", "]")), /asks for "collections\.OrderedDict", with arguments/],
    ["the state of a tensor", archive(stateDict(join(tensorCall(), "}b"))), /asks for "BUILD", which sets the state of an object/],
    ["a name of 100,000 letters, shortened", evil(global("x", "y".repeat(100_000))), /asks for "x\.y{98}", which/],
  ])("%s", (_what, bytes, message) => {
    expect(failure(() => new TorchFile(write(bytes)))).toMatchObject({ name: "CheckpointError", message: expect.stringMatching(message) });
    expect(existsSync("pwned")).toBe(false);
  });
});

describe("a damaged or hostile file is refused", () => {
  const good = archive(stateDict(tensorCall()));
  const legacy = readFileSync(fixture("legacy.bin"));
  test.each<[string, Uint8Array, RegExp]>([
    ["empty", new Uint8Array(), /neither a zip archive nor a pickle/],
    ["something else", Buffer.from("just text"), /neither a zip archive nor a pickle, as files of torch\.save are; download it again$/],
    ["a web page", Buffer.from("\n<!DOCTYPE html><html>"), /: is a web page, not the file itself; download it again/],
    [
      "a Git LFS pointer",
      Buffer.from("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
      /is a Git LFS pointer.*run "git lfs pull"/,
    ],
    ["cut off", good.subarray(0, -30), /truncated: the directory at the end of the zip archive is missing; download it again$/],
    ["an archive of something else", zip([["notes.txt", floats(1)]]), /a zip archive, but none of torch\.save: has no <name>\/data\.pkl$/],
    [
      "an archive of two models",
      zip([
        ["a/data.pkl", floats(1)],
        ["b/data.pkl", floats(1)],
      ]),
      /has several <name>\/data\.pkl$/,
    ],
    [
      "a TorchScript program",
      zip([
        ["a/data.pkl", floats(1)],
        ["a/constants.pkl", floats(1)],
      ]),
      /a TorchScript program/,
    ],
    [
      "an archive with a file twice",
      zip([
        ["a/data.pkl", floats(1)],
        ["a/data.pkl", floats(1)],
      ]),
      /has "a\/data\.pkl" twice/,
    ],
    ["a compressed archive", archive(stateDict(tensorCall()), {}, { method: 8 }), /"m\/data\.pkl" in it is compressed or encrypted/],
    [
      "of a big-endian machine",
      zip([
        ["m/data.pkl", stateDict(tensorCall())],
        ["m/byteorder", Buffer.from("big")],
      ]),
      /big-endian/,
    ],
    [
      "a directory that points behind the end",
      patched(good, good.length - 6, u32(good.length)),
      /truncated: needs \d+ bytes, the file has \d+/,
    ],
    ["a directory of other bytes", patched(good, good.length - 6, u32(4)), /entry 0 of the zip directory is malformed/],
    ["more entries than there are", patched(good, good.length - 12, u16(900)), /entry 4 of the zip directory is malformed/],
    [
      "zip64 values beyond the file",
      patched(archive(good, {}, { zip64: true }), -22 - 20 + 8, u64(2 ** 50)),
      /points to byte 1125899906842624/,
    ],
    ["a storage that is not there", archive(stateDict(tensorCall()), {}), /storage 0 has no bytes in the file, its tensors need 16/],
    [
      "a storage that is too short",
      archive(stateDict(tensorCall()), { 0: floats(1, 2, 3) }),
      /storage 0 has 12 bytes in the file, its tensors need 16/,
    ],
    ["a storage with a path as key", tensorCalls({ key: "../x" }), /describes a storage \("\.\.\/x"\) in a way that torch\.save does not/],
    ["a storage of an unknown dtype", tensorCalls({ type: "ComplexFloatStorage" }), /asks for "torch\.ComplexFloatStorage"/],
    ["a storage of a negative size", tensorCalls({ numel: int(-4) }), /describes a storage \("0"\) in a way/],
    ["a storage of 2^62 elements", tensorCalls({ numel: long(2n ** 62n) }), /describes a storage \("0"\) in a way/],
    [
      "a storage of 2^52 elements",
      tensorCalls({ numel: long(2n ** 52n) }),
      /storage 0 has 16 bytes in the file, its tensors need 18014398509481984/,
    ],
    ["a persistent id of something else", evil(text("x"), "Q"), /describes a storage in a way/],
    [
      "an offset out of range",
      tensorCalls({ offset: int(1) }),
      /a tensor \[2, 2\] with strides \[2, 1\] at 1, outside of its storage 0, which has 4/,
    ],
    ["a negative offset", tensorCalls({ offset: int(-1) }), /a malformed offset, shape or strides/],
    ["a negative size", tensorCalls({ shape: [int(-2), int(2)] }), /a malformed offset, shape or strides/],
    ["a negative stride", tensorCalls({ strides: [int(-2), int(1)] }), /a malformed offset, shape or strides/],
    ["strides out of range", tensorCalls({ strides: [int(3), int(1)] }), /outside of its storage 0/],
    ["strides that overflow", tensorCalls({ strides: [long(2n ** 52n), long(2n ** 52n)] }), /outside of its storage 0/],
    ["sizes that overflow", tensorCalls({ shape: [long(2n ** 52n), long(2n ** 52n)] }), /outside of its storage 0/],
    ["more sizes than strides", tensorCalls({ shape: [int(2), int(2), int(1)] }), /outside of its storage 0/],
    [
      "a storage in place of which there is text",
      archive(stateDict(call("torch._utils", "_rebuild_tensor", text("x"), int(0), ")", ")"))),
      /malformed/,
    ],
    [
      "a parameter of no tensor",
      archive(stateDict(call("torch._utils", "_rebuild_parameter", text("x")))),
      /a parameter is made of no tensor/,
    ],
    ["a number beside the tensors", readFileSync(fixture("number.bin")), /"other" is no tensor: this looks like a training state/],
    ["dictionaries in a dictionary", archive(stateDict(join("}", text("a"), tensorCall(), "s"))), /"weight" is no tensor/],
    ["a tensor alone", readFileSync(fixture("tensor-alone.bin")), /expected named tensors, found something else/],
    ["an empty dictionary", evil("}"), /expected named tensors/],
    ["FP8", readFileSync(fixture("fp8.bin")), /holds a tensor in FP8 .*choose the model's version in bfloat16 or float16$/],
    ["sparse", readFileSync(fixture("sparse.bin")), /holds a sparse tensor/],
    ["of protocol 4", readFileSync(fixture("protocol4.bin")), /its pickle has protocol 4, expected 2/],
    ["text longer than the file", evil("X", u32(0xffffffff), "abc"), /damaged at byte \d+: 4294967295 more bytes expected/],
    ["text of negative length", evil("T", u32(0xffffffff), "abc"), /damaged at byte \d+: -1 more bytes expected/],
    ["a name without end", archive(join("\x80\x02cposix")), /a name does not end/],
    ["a pickle without end", archive(join("\x80\x02]")), /1 more bytes expected, it ends before/],
    ["values that are not there", evil("h\x07"), /value 7 is used before it is there/],
    ["POP", evil("0"), /asks for "opcode 0x30"/],
    ["a pop below the mark", evil("]", "(", "\x85"), /the stack is empty/],
    ["a tuple without mark", evil("t"), /no mark is set/],
    ["items of a list", evil("]", text("a"), text("b"), "s"), /items are set where there is no dictionary/],
    ["an odd number of items", evil("}", "(", text("a"), "u"), /items are set where there is no dictionary/],
    ["a key that is a list", evil("}", "]", text("b"), "s"), /a key is neither text nor a number/],
    ["items appended to text", evil(text("a"), text("b"), "a"), /something is appended where there is no list/],
    ["arguments that are no tuple", evil(global("collections", "OrderedDict"), "N", "R"), /arguments are no tuple/],
    ["the old format, cut off in the data", legacy.subarray(0, -3), /truncated: storage \d+ ends at byte \d+, the file has \d+; download/],
    ["the old format, cut off in the pickle", legacy.subarray(0, 300), /the pickle is damaged at byte \d+: /],
    ["a pickle of something else", pickle("]"), /a pickle, but none of torch\.save, whose first values are a magic number/],
  ])("%s", (_what, bytes, message) => {
    expect(failure(() => new TorchFile(write(bytes)))).toMatchObject({
      name: "CheckpointError",
      code: "E_CHECKPOINT",
      message: expect.stringMatching(message),
    });
  });

  test("bombs of nesting, of the memo and of repetition end in an error", () => {
    const depth = 200_000; // recursion would overflow at a tenth of it, and what doubles would never end
    const nested = join("]".repeat(depth), "a".repeat(depth - 1));
    const doubled = join("]q\x00", "(h\x00h\x00e".repeat(20_000)); // a list that holds itself, again and again
    const memo = join("]", "r\xff\xff\xff\xff".repeat(100_000));
    for (const body of [nested, doubled, memo, join("(".repeat(depth)), join(text("a"), "\x85".repeat(depth), text("b"), "\x93")]) {
      expect(failure(() => new TorchFile(write(evil(body)))).name).toBe("CheckpointError");
    }
  });

  test("a tensor that does not exist is named", () => {
    const path = write(good);
    expect(failure(() => new TorchFile(path).read("bias")).message).toBe(`${path}: no tensor "bias"`);
  });
});

/** A copy with some bytes replaced; a negative place counts from the end. */
function patched(bytes: Buffer, at: number, by: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  by.copy(copy, at < 0 ? copy.length + at : at);
  return copy;
}
