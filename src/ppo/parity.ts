import { arange } from "../tensor/create.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** Whose arithmetic: ours, or DeepSpeed-Chat's, for comparing runs. */
export type Parity = "none" | "deepspeed-chat";

/**
 * The slots that DeepSpeed-Chat's rewards and values reach (`ends = start + number of response tokens + 1`): one more
 * than the response, where the width allows. [batch, response] bool.
 *
 * Example: [1, 1, 0, 0] gives [1, 1, 1, 0]; a full row stays as it is.
 *
 * @param responseMask [batch, response] bool, whose true places start at column 0
 */
export function throughSlotAfterLast(responseMask: Tensor): Tensor {
  const [, width = 0] = responseMask.shape;
  const positions = arange(0, width).toDevice(responseMask.device);
  return positions.less(responseMask.sum([1], true).add(1));
}
