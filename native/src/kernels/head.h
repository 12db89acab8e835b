// Log-probabilities of given tokens from rows of logits, and the gradient of the logits. The arithmetic is that of sampling, so a token
// that was drawn has the same log-probability in training, bit for bit.
#pragma once

#include "kernels.h"
#include "sampling.h"

namespace tschat {
namespace TSCHAT_ISA {

template <typename T>
static void tokenLogprobs(const TokenLogprobsArgs& args, int64_t from, int64_t to) {
  const int64_t vocab = args.vocab;
  Weights weights = {static_cast<float*>(scratch(0, (vocab + 16) * sizeof(float))),
                     static_cast<double*>(scratch(1, (vocab / kSumTokens + 1) * sizeof(double))), vocab, 0};
  for (int64_t row = from; row < to; row++) {
    const T* x = static_cast<const T*>(args.logits) + row * vocab;
    const float inverse = static_cast<float>(1 / args.temperature), most = largestLogit(x, vocab);
    if (most != most) { // a logit that is NaN or infinite
      args.logprobs[row] = args.logSums[row] = NAN;
      if (args.entropies) args.entropies[row] = NAN;
      continue;
    }
    weighLogits(weights, x, most, inverse);
    const double logTotal = log(weights.total);
    args.logprobs[row] = static_cast<float>((static_cast<double>(toFloat(x[args.targets[row]])) - most) / args.temperature - logTotal);
    args.logSums[row] = static_cast<float>(most / args.temperature + logTotal);
    if (!args.entropies) continue;
    double expected = 0; // of (x - most) / temperature
    for (int64_t block = 0; block < vocab; block += kSumTokens) {
      const int64_t count = vocab - block < kSumTokens ? vocab - block : kSumTokens;
      Vec sums = zero();
      forEach(x + block, count, [&](Vec v, int64_t k) {
        // A weight of 0 may belong to a logit of -Infinity.
        const Vec weight = load(weights.values + block + k);
        sums = sums + whereAbove(weight, 0.0f, weight * (v - set(most)) * set(inverse));
      });
      expected += sum(sums);
    }
    args.entropies[row] = static_cast<float>(logTotal - expected / weights.total);
  }
}

/** logits = gradient / temperature * (onehot(target) - softmax(logits / temperature)), in place. */
template <typename T>
static void tokenLogprobsBackward(const TokenLogprobsArgs& args, int64_t from, int64_t to) {
  const int64_t vocab = args.vocab;
  const Vec inverse = set(static_cast<float>(1 / args.temperature));
  for (int64_t row = from; row < to; row++) {
    T* x = static_cast<T*>(const_cast<void*>(args.logits)) + row * vocab;
    const float slope = args.gradient[row] / static_cast<float>(args.temperature);
    const Vec shift = set(args.logSums[row]), factor = set(-slope);
    // The target's own entry is rounded once, from the whole sum.
    float values[16];
    const float target = toFloat(x[args.targets[row]]);
    store(values, exp(set(target) * inverse - shift));
    const float ofTarget = slope * (1 - values[0]);
    int64_t k = 0;
    for (; k + 16 <= vocab; k += 16) store(x + k, exp(load(x + k) * inverse - shift) * factor);
    if (k < vocab) storeFirst(x + k, exp(loadFirst(x + k, vocab - k) * inverse - shift) * factor, vocab - k);
    assign(x[args.targets[row]], ofTarget);
  }
}

}  // namespace TSCHAT_ISA
}  // namespace tschat
