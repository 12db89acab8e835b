#define TSCHAT_ISA avx512
#include "isa.h"

namespace tschat {
const InstructionSet kAvx512Kernels = {"avx512", avx512::table<float>(), avx512::table<avx512::BF16>()};
}  // namespace tschat
