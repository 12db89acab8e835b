import type { ParameterBlock } from "../nn/parameter-block.ts";
import { enableGrad, noGrad, segment } from "../tensor/autograd.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { tidy } from "../tensor/tidy.ts";

/**
 * Who runs the blocks of a model, in both directions. The model hands over every block with its forward function and
 * knows nothing of recomputation, sharding or offload; a runner may keep, free, fetch or recompute what it likes, as
 * long as the result and the gradients are the same.
 */
export interface LayerRunner {
  /** `forward(x)`, where only the parameters of `block` are used. The caller has no further use for `x`. */
  run(block: ParameterBlock, forward: (x: Tensor) => Tensor, x: Tensor): Tensor;
}

/** Calls the block. Autograd keeps what backward needs; everything else that the block has computed is freed when it ends. */
export const plainRunner: LayerRunner = {
  run(_block, forward, x) {
    const y = tidy(() => forward(x));
    if (y !== x) x.dispose();
    return y;
  },
};

/**
 * Keeps only each block's input and recomputes the block when its gradient is asked for (gradient checkpointing,
 * arXiv:1604.06174): one more forward in exchange for the activations' memory.
 */
export const checkpointingRunner: LayerRunner = {
  run(block, forward, x) {
    if (!x.requiresGrad) return plainRunner.run(block, forward, x);
    const y = noGrad(() => tidy(() => forward(x)));
    const [joined] = segment([x], [y], ([gradient]) => tidy(() => {
      if (!gradient) return [undefined];
      const input = x.detach().requiresGrad_();
      x.dispose();
      enableGrad(() => tidy(() => forward(input))).backward(gradient);
      gradient.dispose();
      return [input.grad];
    }));
    if (y !== x) y.dispose(); // `joined` has its memory
    if (!joined) throw new Error("internal: a segment with one output gave none");
    return joined;
  },
};
