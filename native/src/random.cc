// Seeds and the state of random generators.
#include <ATen/CPUGeneratorImpl.h>

#include <mutex>

#include "support.h"

namespace tschat {

static napi_value createGenerator(napi_env env, napi_callback_info info) {
  Args args(env, info);
  return wrapGenerator(env, at::detail::createCPUGenerator(static_cast<uint64_t>(args.integer(0))));
}

/** (seed): reseeds the default generators, those that operators use when they are given none. */
static napi_value manualSeed(napi_env env, napi_callback_info info) {
  Args args(env, info);
  at::manual_seed(static_cast<uint64_t>(args.integer(0)));
  return undefined(env);
}

static at::Generator generatorOrDefault(const Args& args, size_t index) {
  return args.isNullish(index) ? at::detail::getDefaultCPUGenerator() : unwrapGenerator(args.env, args[index]);
}

/** (generator or null for the default) -> uint8 tensor with the whole state. */
static napi_value generatorState(napi_env env, napi_callback_info info) {
  Args args(env, info);
  at::Generator generator = generatorOrDefault(args, 0);
  const std::lock_guard lock(generator.mutex());
  return wrapTensor(env, generator.get_state());
}

static napi_value setGeneratorState(napi_env env, napi_callback_info info) {
  Args args(env, info);
  at::Generator generator = generatorOrDefault(args, 0);
  const std::lock_guard lock(generator.mutex());
  generator.set_state(unwrapTensor(env, args[1]));
  return undefined(env);
}

std::vector<Export> randomExports() {
  return {{"createGenerator", guarded<createGenerator>},
          {"manualSeed", guarded<manualSeed>},
          {"generatorState", guarded<generatorState>},
          {"setGeneratorState", guarded<setGeneratorState>}};
}

}  // namespace tschat
