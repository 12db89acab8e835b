// What the package exports as `ppo`: the arithmetic of PPO as pure functions on tensors.
export { estimateAdvantages, type Advantages, type AdvantagesInput } from "./advantages.ts";
export { AdaptiveKl, klStatistics, type AdaptiveKlOptions, type KlInput, type KlStatistics } from "./kl.ts";
export { policyLoss, valueLoss, type PolicyLoss, type PolicyLossInput, type ValueLoss, type ValueLossInput } from "./losses.ts";
export type { Parity } from "./parity.ts";
export { missingEosPenalty, tokenRewards, type TokenRewardsInput } from "./token-rewards.ts";
export { explainedVariance, scaleToUnitVariance, whiten, type ExplainedVarianceInput } from "./whiten.ts";
