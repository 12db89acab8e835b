// The exports of the addon, one list a file. The typed contract is src/native/binding.ts.
#include <c10/core/AutogradState.h>

#include "support.h"

static napi_value initialize(napi_env env, napi_value exports) {
  // The engine then calls back on the thread that called backward(), which a segment's JavaScript needs. The setting is per thread.
  c10::AutogradState::get_tls_state().set_multithreading_enabled(false);
  using namespace tschat;
  for (const auto& list : {tensorExports(), dispatchExports(), autogradExports(), randomExports(), systemExports(), kernelExports()}) {
    for (const auto& [name, callback] : list) {
      napi_value function;
      if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function) != napi_ok) return nullptr;
      if (napi_set_named_property(env, exports, name, function) != napi_ok) return nullptr;
    }
  }
  return exports;
}

NAPI_MODULE_INIT() { return initialize(env, exports); }
