import { noGrad } from "../tensor/autograd.ts";
import { type Generator, rand } from "../tensor/create.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { tidy } from "../tensor/tidy.ts";
import { ParameterBlock } from "./parameter-block.ts";

/** One linear that has an adapter: rows of a matrix of a block, since projections that are multiplied together are one matrix. */
export interface AdaptedLinear {
  /** Its name in the checkpoint without ".weight", e.g. "model.layers.0.self_attn.q_proj". */
  readonly module: string;
  readonly matrix: string;
  /** First row of the matrix, and how many rows are this linear's. */
  readonly row: number;
  readonly rows: number;
  /** Columns. */
  readonly width: number;
  /** How its rows and columns lie in the checkpoint, see `CheckpointEntry`. */
  readonly order?: readonly number[];
  readonly transposed?: boolean;
}

/** The two factors of an adapter. */
export interface LoraFactors {
  /** [rank, width] */
  readonly a: Tensor;
  /** [rows, rank] */
  readonly b: Tensor;
}

/** The adapters of a matrix's linears, their factors below each other. */
export interface MatrixLora {
  /** [linears * rank, width] */
  readonly a: Tensor;
  /** [rows of all linears, rank] */
  readonly b: Tensor;
  /** First row and end of each linear. */
  readonly rows: readonly number[];
  readonly scale: number;
  /** W' of the whole matrix. */
  readonly merged: Tensor;
}

/** How the adapters of a block are made. */
export interface BlockLoraOptions {
  rank: number;
  /** alpha / rank */
  scale: number;
  /** Draws every A. */
  generator: Generator;
}

/**
 * The low-rank adapters (LoRA, arXiv:2106.09685) of one block: each linear multiplies with W' = W + scale B A, where W stays as it is.
 * W' lies in memory of its own, in the model's dtype, so that training and generation multiply with the same bits; `merge` computes it
 * anew when A and B have changed.
 */
export class BlockLora {
  readonly linears: readonly AdaptedLinear[];
  /** A and B of every linear, float32 whatever the model runs in: they are small. */
  readonly parameters: ParameterBlock;
  readonly scale: number;
  readonly #rank: number;
  readonly #base: ParameterBlock;
  readonly #matrices = new Map<string, MatrixLora>();

  /** A is drawn from U(-1 / sqrt(width), 1 / sqrt(width)), Kaiming's distribution with a = sqrt(5) as in PEFT; B is 0, so that W' is W. */
  constructor(base: ParameterBlock, linears: readonly AdaptedLinear[], { rank, scale, generator }: BlockLoraOptions) {
    this.#base = base;
    this.#rank = rank;
    this.linears = linears;
    this.scale = scale;
    const matrices = [...new Set(linears.map(({ matrix }) => matrix))];
    this.parameters = new ParameterBlock(`${base.name} adapter`, matrices.flatMap((matrix) => {
      const own = this.linearsOf(matrix);
      return [
        { name: `${matrix}A`, shape: [own.length * rank, own[0]?.width ?? 0] },
        { name: `${matrix}B`, shape: [own.reduce((sum, { rows }) => sum + rows, 0), rank] },
      ];
    }), "float32");
    for (const matrix of matrices) {
      const a = this.parameters.leaf(`${matrix}A`), b = this.parameters.leaf(`${matrix}B`), [, width = 1] = a.shape;
      noGrad(() => tidy(() => void a.copy_(rand(a.shape, generator).mul(2).sub(1).mul(width ** -0.5))));
      const rows = this.linearsOf(matrix).flatMap((linear) => [linear.row, linear.row + linear.rows]);
      this.#matrices.set(matrix, { a, b, rows, scale, merged: noGrad(() => this.baseOf(matrix).clone()) });
    }
  }

  /** Whether a linear has an adapter. */
  has(module: string): boolean { return this.linears.some((linear) => linear.module === module); }
  /** The linears that are rows of a matrix, in order. */
  linearsOf(matrix: string): readonly AdaptedLinear[] { return this.linears.filter((linear) => linear.matrix === matrix); }
  /** The adapters of a matrix, or undefined where none of its linears has one. */
  of(matrix: string): MatrixLora | undefined { return this.#matrices.get(matrix); }
  /** W of a matrix. */
  baseOf(matrix: string): Tensor { return this.#base.viewOf(this.#base.flat, matrix); }
  /** The factors of one linear: views of its matrix's, with gradient. */
  factorsOf(module: string): LoraFactors {
    const { matrix } = this.#linear(module), { a, b } = this.#matrices.get(matrix) as MatrixLora;
    return this.cut(module, a, b);
  }
  /** A linear's part of two tensors that lie like the factors of its matrix. */
  cut(module: string, a: Tensor, b: Tensor): LoraFactors {
    const { matrix, rows } = this.#linear(module), own = this.linearsOf(matrix);
    const before = own.slice(0, own.findIndex((linear) => linear.module === module));
    const startA = before.length * this.#rank, startB = before.reduce((sum, linear) => sum + linear.rows, 0);
    return { a: a.slice(0, startA, startA + this.#rank), b: b.slice(0, startB, startB + rows) };
  }

  /** scale B A of a linear: [rows, width] float32. */
  delta(module: string): Tensor {
    return noGrad(() => {
      const { a, b } = this.factorsOf(module);
      return b.mul(this.scale).matmul(a);
    });
  }

  /** Computes every W' anew: summed in float32, rounded once. */
  merge(): void {
    noGrad(() => {
      for (const { module, matrix, row, rows } of this.linears) {
        tidy(() => {
          const [base, merged] = [this.baseOf(matrix), this.#matrices.get(matrix)?.merged].map((whole) => whole?.slice(0, row, row + rows));
          if (base) merged?.copy_(base.to("float32").add(this.delta(module)));
        });
      }
    });
  }

  #linear(module: string): AdaptedLinear {
    const linear = this.linears.find((candidate) => candidate.module === module);
    if (!linear) throw new Error(`internal: "${module}" has no adapter`);
    return linear;
  }
}
