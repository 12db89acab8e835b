import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CheckpointError } from "../errors.ts";
import { SafetensorsFile, writeSafetensors } from "../tensor/safetensors.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { WeightFile } from "../tensor/weight-file.ts";
import { TorchFile } from "./formats/torch-file.ts";
import type { Lora } from "./lora.ts";

const CONFIG_FILE = "adapter_config.json";
const WEIGHTS_FILE = "adapter_model.safetensors";
const PICKLED_FILE = "adapter_model.bin";
/** What PEFT puts before the names of the model that it wraps. */
const PREFIX = "base_model.model.";

/** The checkpoint name of a factor of an adapter, as PEFT writes it. */
export function factorName(module: string, factor: "A" | "B"): string {
  return `${PREFIX}${module}.lora_${factor}.weight`;
}

/** One linear's adapter as it is on disk: its weight becomes W + scale B A. */
export interface StoredFactors {
  /** [rank, in] */
  readonly a: Tensor;
  /** [out, rank] */
  readonly b: Tensor;
  readonly scale: number;
}

/** A LoRA adapter in PEFT's format. */
export interface StoredAdapter {
  /** By the names of their modules in the base model, e.g. "model.layers.0.self_attn.q_proj". */
  readonly factors: ReadonlyMap<string, StoredFactors>;
  /** Whole tensors that take the place of the base model's, by their names there. */
  readonly saved: ReadonlyMap<string, Tensor>;
}

/** What of PEFT's settings changes the arithmetic in a way that tschat does not know, and must therefore be off. */
const unsupported = [
  "use_dora", "lora_bias", "use_qalora", "layer_replication", "trainable_token_indices", "alora_invocation_tokens",
  "target_parameters", "megatron_config", "use_bdlora", "arrow_config", "velora_config", "monteclora_config", "kasa_config",
];
/** Starts that leave the base model's weights as they are; others (PiSSA, OLoRA, CorDA, LoftQ) change them. */
const knownStarts = [undefined, null, true, false, "gaussian", "eva", "orthogonal"];

/** Old adapters are pickled; the reader takes nothing but tensors from them. */
function openWeights(dir: string): WeightFile {
  const path = join(dir, WEIGHTS_FILE), pickled = join(dir, PICKLED_FILE);
  if (existsSync(path)) return new SafetensorsFile(path);
  if (existsSync(pickled)) return new TorchFile(pickled);
  throw new CheckpointError(`${dir}: has neither ${WEIGHTS_FILE} nor ${PICKLED_FILE}; a LoRA adapter has one of them`);
}

type PeftConfig = Readonly<Record<string, unknown>>;

/**
 * Opens a folder with `adapter_config.json` and `adapter_model.safetensors` (or `.bin`), as PEFT and tschat write it.
 *
 * @throws {CheckpointError} when something is missing or damaged, or the adapter is of a kind that tschat does not compute, naming it
 */
export function readPeftAdapter(dir: string): StoredAdapter {
  const config = readConfig(dir);
  const file = openWeights(dir), { path } = file;
  const factors = new Map<string, StoredFactors>(), saved = new Map<string, Tensor>();
  const names = new Set(file.names());
  for (const name of names) {
    const { module, factor, whole } = stored.exec(name)?.groups ?? {};
    if (whole !== undefined && !/lora_|\.base_layer\./.test(whole)) {
      saved.set(whole, file.read(name));
    } else if (module === undefined) {
      throw new CheckpointError(
        `${path}: "${name}" is no tensor of a LoRA adapter on linears: only <module>.lora_A.weight and lora_B are read`,
      );
    } else if (!names.has(factorName(module, factor === "A" ? "B" : "A"))) {
      throw new CheckpointError(`${path}: "${name}" stands without its other factor; the file is incomplete`);
    } else if (factor === "A") {
      const a = file.read(name), b = file.read(factorName(module, "B")), rank = a.shape[0] ?? 0;
      if (a.shape.length !== 2 || b.shape.length !== 2 || b.shape[1] !== rank) {
        throw new CheckpointError(`${path}: the factors of ${module} do not fit together: A is [${a.shape}], B [${b.shape}]`);
      }
      factors.set(module, { a, b, scale: scaleOf(config, module, rank, dir) });
    }
  }
  return { factors, saved };
}

const stored = /^base_model\.model\.(?:(?<module>.+)\.lora_(?<factor>[AB])\.weight|(?<whole>.+))$/;

function readConfig(dir: string): PeftConfig {
  const path = join(dir, CONFIG_FILE);
  if (!existsSync(path)) throw new CheckpointError(`${dir}: has no ${CONFIG_FILE}; give the folder of a LoRA adapter in PEFT's format`);
  let config: PeftConfig;
  try {
    config = JSON.parse(readFileSync(path, "utf8")) as PeftConfig;
  } catch (cause) {
    throw new CheckpointError(`${path}: cannot be read as JSON: ${(cause as Error).message}`, { cause });
  }
  const refuse = (key: string, expected: string): never => {
    const found = JSON.stringify(config[key]) ?? "missing";
    throw new CheckpointError(`${path}: "${key}" is ${found}, which tschat does not support; expected ${expected}`);
  };
  if (config.peft_type !== "LORA") refuse("peft_type", '"LORA"');
  if (config.bias !== undefined && config.bias !== "none") refuse("bias", '"none"');
  for (const key of unsupported) if (isOn(config[key])) refuse(key, "it to be off");
  if (!knownStarts.includes(config.init_lora_weights as undefined)) refuse("init_lora_weights", "a start that keeps the base model");
  return config;
}

function isOn(value: unknown): boolean {
  if (value === undefined || value === null || value === false) return false;
  return typeof value !== "object" || Object.keys(value).length > 0;
}

/** alpha / rank, or alpha / sqrt(rank) in rank-stabilised LoRA (arXiv:2312.03732); a module may have a rank and an alpha of its own. */
function scaleOf(config: PeftConfig, module: string, rank: number, dir: string): number {
  const expected = ofModule(config, "rank_pattern", "r", module, dir), alpha = ofModule(config, "alpha_pattern", "lora_alpha", module, dir);
  if (expected !== rank) {
    throw new CheckpointError(`${dir}: ${CONFIG_FILE} gives ${module} the rank ${expected}, its factors have ${rank}`);
  }
  return alpha / (config.use_rslora === true ? Math.sqrt(rank) : rank);
}

/** The value of the first pattern that matches the end of a module's name, as PEFT chooses it, or the common one. */
function ofModule(config: PeftConfig, patternsKey: string, key: string, module: string, dir: string): number {
  const patterns = Object.entries((config[patternsKey] ?? {}) as Record<string, unknown>);
  const matches = (pattern: string): boolean => {
    try {
      return new RegExp(`^(.*\\.)?(${pattern})$`).test(module);
    } catch (cause) {
      const message = `${dir}: ${CONFIG_FILE}: "${patternsKey}" holds "${pattern}", which is no regular expression`;
      throw new CheckpointError(message, { cause });
    }
  };
  const [, own] = patterns.find(([pattern]) => matches(pattern)) ?? [];
  const value = own ?? config[key];
  if (typeof value === "number" && value > 0) return value;
  throw new CheckpointError(`${dir}: ${CONFIG_FILE}: "${key}": expected a number above 0, found ${JSON.stringify(value) ?? "nothing"}`);
}

/** What an adapter's folder says besides the adapter. */
export interface AdapterSurroundings {
  readonly baseModel: string;
  readonly taskType: "CAUSAL_LM" | "SEQ_CLS";
  /** Whole tensors that belong to it, by their names in the model. */
  readonly saved: ReadonlyMap<string, Tensor>;
}

/** Writes a folder that PEFT loads onto the base model. */
export function writePeftAdapter(dir: string, lora: Lora, { baseModel, taskType, saved }: AdapterSurroundings): void {
  const { rank, alpha, dropout } = lora.options;
  const modules = lora.linears.map(({ module }) => module);
  mkdirSync(dir, { recursive: true });
  const config = {
    peft_type: "LORA", task_type: taskType, base_model_name_or_path: baseModel, inference_mode: true,
    r: rank, lora_alpha: alpha, lora_dropout: dropout, target_modules: modules, bias: "none",
    modules_to_save: saved.size === 0 ? null : [...saved.keys()].map((name) => name.split(".")[0]),
    fan_in_fan_out: lora.linears.some(({ transposed }) => transposed), // GPT-2's Conv1D
    init_lora_weights: true, use_rslora: false, use_dora: false, rank_pattern: {}, alpha_pattern: {},
  };
  writeFileSync(join(dir, CONFIG_FILE), `${JSON.stringify(config, null, 2)}\n`);
  const factors = lora.factors().flatMap(({ module, a, b }) => [[factorName(module, "A"), a], [factorName(module, "B"), b]] as const);
  const all = [...factors, ...[...saved].map(([name, tensor]) => [PREFIX + name, tensor] as const)];
  const toWrite = all.map(([name, tensor]) => ({ name, shape: tensor.shape, read: () => tensor.detach() }));
  writeSafetensors(join(dir, WEIGHTS_FILE), toWrite, "float32");
}
