// Which instruction set the kernels use.
#include <stdlib.h>
#include <string.h>

#include <atomic>
#include <stdexcept>
#include <string>

#include "../support.h"
#include "kernels.h"

namespace tschat {

/** The sets that this processor can run, the best first. */
static const std::vector<const InstructionSet*>& available() {
  static const std::vector<const InstructionSet*> sets = [] {
    std::vector<const InstructionSet*> found;
#if defined(__x86_64__)
    const auto has512 = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512dq");
    if (has512) found.push_back(&kAvx512Kernels);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&kAvx2Kernels);
#endif
    found.push_back(&kPlainKernels);
    return found;
  }();
  return sets;
}

static const InstructionSet& find(const std::string& name) {
  std::string known;
  for (const InstructionSet* set : available()) {
    if (name == set->name) return *set;
    known += std::string(known.empty() ? "" : ", ") + set->name;
  }
  throw ArgumentError("kernels \"" + name + "\" (TSCHAT_KERNELS): this processor has " + known);
}

static std::atomic<const InstructionSet*> chosen = nullptr;

const InstructionSet& kernels() {
  const InstructionSet* set = chosen.load(std::memory_order_relaxed);
  if (!set) {
    const char* name = getenv("TSCHAT_KERNELS");
    set = name && *name ? &find(name) : available().front();
    chosen.store(set, std::memory_order_relaxed);
  }
  return *set;
}

void* scratch(int index, size_t bytes) {
  struct Buffer {
    void* data = nullptr;
    size_t size = 0;
    ~Buffer() { free(data); }
  };
  static thread_local Buffer buffers[4];
  Buffer& buffer = buffers[index];
  if (buffer.size < bytes) {
    free(buffer.data);
    buffer.size = (bytes + 4095) / 4096 * 4096;
    buffer.data = aligned_alloc(64, buffer.size);
    if (!buffer.data) throw std::bad_alloc();
  }
  return buffer.data;
}

static napi_value kernelSet(napi_env env, napi_callback_info) { return fromText(env, kernels().name); }

static napi_value kernelSets(napi_env env, napi_callback_info) {
  napi_value array;
  check(env, napi_create_array(env, &array));
  uint32_t i = 0;
  for (const InstructionSet* set : available()) check(env, napi_set_element(env, array, i++, fromText(env, set->name)));
  return array;
}

static napi_value useKernels(napi_env env, napi_callback_info info) {
  chosen.store(&find(Args(env, info).text(0)));
  return undefined(env);
}

std::vector<Export> kernelExports() {
  return {{"kernelSet", guarded<kernelSet>}, {"kernelSets", guarded<kernelSets>}, {"useKernels", guarded<useKernels>}};
}

}  // namespace tschat
