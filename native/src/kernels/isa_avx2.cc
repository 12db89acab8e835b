#define TSCHAT_ISA avx2
#include "isa.h"

namespace tschat {
const InstructionSet kAvx2Kernels = {"avx2", avx2::table<float>(), avx2::table<avx2::BF16>()};
}  // namespace tschat
