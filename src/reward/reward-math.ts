// What the package exports as `reward`: the objectives of the reward model as pure functions on tensors.
export { lastTokenLoss, pairwiseLoss, type LastTokenLossInput, type PairwiseLoss, type PairwiseLossInput } from "./pairwise-loss.ts";
