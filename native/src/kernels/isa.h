// Makes the table of one instruction set. Each isa_*.cc defines TSCHAT_ISA, is compiled with that set's flags and includes this.
#pragma once

#include "attention.h"
#include "attention_backward.h"
#include "backward.h"
#include "elementwise.h"
#include "head.h"
#include "linear.h"
#include "sampling.h"

namespace tschat {
namespace TSCHAT_ISA {

template <typename T>
static constexpr Kernels table() {
  return {norm<T>,         linearTasks<T>,    linear<T>,        activation<T>,    append<T>,
          attend<T>,       combine<T>,        attendPrompt<T>,  attendBackward<T>, joinBackward<T>,
          normBackward<T>, accumulate<T>,     activationBackward<T>, tokenLogprobs<T>, tokenLogprobsBackward<T>,
          sample<T>};
}

}  // namespace TSCHAT_ISA
}  // namespace tschat
