// One function, `load(folder)`: opens libtorch's libraries from `folder` with global symbols. An addon that is linked
// against them by name alone finds them already loaded, so it needs no rpath and works with libtorch wherever it lies.

#include <dlfcn.h>
#include <node_api.h>

#include <array>
#include <string>

namespace {

// The OpenMP runtime goes first: the addon must get the one that libtorch uses, not the compiler's.
#ifdef __APPLE__
constexpr std::array kLibraries{"libomp.dylib", "libc10.dylib", "libtorch_cpu.dylib"};
#else
constexpr std::array kLibraries{"libgomp.so.1", "libc10.so", "libtorch_cpu.so"};
#endif

napi_value Throw(napi_env env, const std::string& message) {
  napi_throw_error(env, nullptr, message.c_str());
  return nullptr;
}

// load(folder: string): void. Throws an Error that names the library and gives the dynamic linker's reason.
napi_value Load(napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value argument;
  size_t length = 0;
  napi_get_cb_info(env, info, &argc, &argument, nullptr, nullptr);
  if (argc != 1 || napi_get_value_string_utf8(env, argument, nullptr, 0, &length) != napi_ok) {
    return Throw(env, "load(folder): folder is not a string");
  }
  std::string folder(length, '\0');
  napi_get_value_string_utf8(env, argument, folder.data(), length + 1, &length);

  for (const char* library : kLibraries) {
    const std::string path = folder + "/" + library;
    // Never closed: the addon and everything it registers stay for the life of the process.
    if (dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr) {
      const char* reason = dlerror();
      return Throw(env, "cannot load " + path + ": " + (reason == nullptr ? "unknown reason" : reason));
    }
  }
  return nullptr;
}

}  // namespace

NAPI_MODULE_INIT() {
  napi_value load;
  if (napi_create_function(env, "load", NAPI_AUTO_LENGTH, Load, nullptr, &load) != napi_ok) return nullptr;
  if (napi_set_named_property(env, exports, "load", load) != napi_ok) return nullptr;
  return exports;
}
