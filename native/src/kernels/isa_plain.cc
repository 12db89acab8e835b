#define TSCHAT_ISA plain
#include "isa.h"

namespace tschat {
const InstructionSet kPlainKernels = {"plain", plain::table<float>(), plain::table<plain::BF16>()};
}  // namespace tschat
