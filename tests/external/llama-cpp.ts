// Exports a model in every number format, and compares llama.cpp's greedy answers with ours:
//
//   node tests/external/llama-cpp.ts LLAMA_CPP_BIN MODEL [ADAPTER]
//
// LLAMA_CPP_BIN is the folder with llama-completion and llama-quantize, MODEL a Hugging Face folder or a .gguf file (which is compared as
// it is). We compute in float32; llama.cpp multiplies with activations rounded to the file's format (f16, bf16, 8 bits), so where two
// tokens are nearly equally likely the answers may part. The tokens at which they part are printed with the difference of their
// log-probabilities, which is an error above the limit of the format. f16, bf16 and q8_0 must also have the tensors that llama-quantize
// makes of the f32 file. The exit code is the number of errors.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { exportModel } from "../../src/cli/export-model.ts";
import { HybridEngine } from "../../src/engine/hybrid-engine.ts";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { openGguf } from "../../src/model/gguf/checkpoint.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";

const [bin, model, adapter] = process.argv.slice(2);
if (bin === undefined || model === undefined) throw new Error("usage: node tests/external/llama-cpp.ts LLAMA_CPP_BIN MODEL [ADAPTER]");

const prompts = [
  "The capital of France is", "Once upon a time, there was a little girl who", "def fibonacci(n):\n    ",
  "Water boils at a temperature of", "The three primary colours are",
];
const NEW_TOKENS = 32;

/** Most nats between two tokens that rounding of the activations can exchange. */
const LIMITS: Readonly<Record<string, number>> = { f32: 0.005, f16: 0.05, bf16: 0.2, q8_0: 0.3, file: 0.5 };

/** The text that llama.cpp puts behind a prompt. */
function llamaCpp(file: string, prompt: string): string {
  const args = [
    "-m", file, "-p", prompt, "-n", String(NEW_TOKENS), "--temp", "0", "-no-cnv", "--no-warmup", "--no-display-prompt", "-c", "256",
    "--cache-type-k", "f32", "--cache-type-v", "f32", "-fa", "off",
  ];
  return execFileSync(join(bin ?? "", "llama-completion"), args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
}

/** Compares the answers to every prompt; gives the number of those that part where they should not. */
async function compare(label: string, file: string): Promise<number> {
  const loaded = await CausalLM.load(file, { dtype: "float32" }), tokenizer = await Tokenizer.load(file);
  const encoded = await tokenizer.encodeBatch(prompts, { addSpecialTokens: true });
  const engine = new HybridEngine(loaded, { numSlots: prompts.length });
  const { responses } = engine.generate(encoded, { maxNewTokens: NEW_TOKENS, temperature: 0, eosTokenId: tokenizer.eosTokenId });
  engine.enterTrain();
  let equal = 0, errors = 0;
  for (const [i, prompt] of prompts.entries()) {
    const theirs = llamaCpp(file, prompt).replace(/ ?\[end of text\]\s*$/, "").trimEnd();
    const ours = tokenizer.decode(responses[i] ?? []).trimEnd();
    if (theirs === ours) {
      equal++;
      continue;
    }
    const gap = await gapBetween(loaded, tokenizer, { prompt: encoded[i] ?? [], ours: responses[i] ?? [], theirs });
    if (!(gap <= (LIMITS[label] ?? 0))) errors++;
    console.log(`${label}: ${JSON.stringify(prompt)} parts at ${gap.toFixed(4)} nats`);
    console.log(`  ours   ${JSON.stringify(ours)}\n  theirs ${JSON.stringify(theirs)}`);
  }
  console.log(`${label}: ${equal} of ${prompts.length} answers of ${NEW_TOKENS} tokens are equal, ${errors} part without a near tie`);
  return errors;
}

/** By how many nats our first different token is likelier than theirs. */
async function gapBetween(
  loaded: CausalLM, tokenizer: Tokenizer, { prompt, ours, theirs }: { prompt: number[]; ours: number[]; theirs: string },
): Promise<number> {
  const others = await tokenizer.encode(theirs);
  const same = ours.findIndex((token, i) => token !== others[i]);
  const context = [...prompt, ...ours.slice(0, same)];
  const logprobs = noGrad(() => loaded.forward([context]).select(0, 0).select(0, context.length - 1).logSoftmax(0)).numbers();
  return (logprobs[ours[same] ?? 0] ?? Number.NaN) - (logprobs[others[same] ?? -1] ?? Number.NaN);
}

/** Tensors of two files that do not have the same values. */
function differingTensors(first: string, second: string): number {
  const [a, b] = [openGguf(first), openGguf(second)];
  return a.names().filter((name) => !Buffer.from(a.read(name).bytes()).equals(Buffer.from(b.read(name).bytes()))).length;
}

let errors = 0;
if (model.endsWith(".gguf") && adapter === undefined) errors = await compare("file", model);
else {
  const folder = mkdtempSync(join(tmpdir(), "tschat-llama-cpp-"));
  try {
    for (const dtype of ["f32", "f16", "bf16", "q8_0"] as const) {
      const output = join(folder, `${dtype}.gguf`);
      console.log(await exportModel({ model, adapter, format: "gguf", dtype, output }));
      errors += await compare(dtype, output);
    }
    for (const [dtype, theirName] of [["f16", "F16"], ["bf16", "BF16"], ["q8_0", "Q8_0"]] as const) {
      const theirs = join(folder, "theirs.gguf");
      execFileSync(join(bin, "llama-quantize"), [join(folder, "f32.gguf"), theirs, theirName], { stdio: "ignore" });
      const differing = differingTensors(join(folder, `${dtype}.gguf`), theirs);
      console.log(`${dtype}: ${differing} tensors differ from those of llama-quantize`);
      errors += differing;
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}
process.exitCode = errors;
