// What every file of the addon shares: argument access, results, and the one place where C++ errors become JavaScript errors.
#pragma once

#include <ATen/ATen.h>
#include <node_api.h>

#include <stdexcept>
#include <string>
#include <vector>

namespace tschat {

/** Thrown when a JavaScript exception is already pending: the guard returns and leaves it as it is. */
struct PendingException : std::exception {};

/** An argument of the wrong kind; becomes a JavaScript TypeError. */
struct ArgumentError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/** Throws PendingException or ArgumentError unless `status` is napi_ok. */
void check(napi_env env, napi_status status);

/**
 * Turns the C++ exception in flight into a pending JavaScript error: no C++ trace, `code` E_MEMORY for a failed allocation, else
 * E_NATIVE.
 */
void throwToJs(napi_env env) noexcept;

/** Wraps `Body` so that no C++ exception reaches JavaScript's stack. */
template <napi_value (*Body)(napi_env, napi_callback_info)>
napi_value guarded(napi_env env, napi_callback_info info) {
  try {
    return Body(env, info);
  } catch (...) {
    throwToJs(env);
    return nullptr;
  }
}

/** The positional arguments of one call; the TypeScript side has validated them, so a wrong kind is a bug that still must not crash. */
class Args {
 public:
  Args(napi_env env, napi_callback_info info);
  napi_env env;
  size_t count = 0;
  napi_value operator[](size_t index) const;
  bool isNullish(size_t index) const;
  std::string text(size_t index) const;
  int64_t integer(size_t index) const;
  double number(size_t index) const;
  bool boolean(size_t index) const;
  std::vector<int64_t> integers(size_t index) const;

 private:
  static constexpr size_t kMax = 32;
  napi_value values_[kMax];
};

napi_value undefined(napi_env env);
napi_value null(napi_env env);
napi_value fromNumber(napi_env env, double value);
napi_value fromBoolean(napi_env env, bool value);
napi_value fromText(napi_env env, const std::string& value);
napi_value fromIntegers(napi_env env, at::IntArrayRef values);
std::string toText(napi_env env, napi_value value);
/** A whole number; throws ArgumentError for a fraction or NaN, which Node-API would silently cut. */
int64_t toInteger(napi_env env, napi_value value);
std::vector<int64_t> toIntegers(napi_env env, napi_value value);
napi_valuetype typeOf(napi_env env, napi_value value);

/** "float32" and the like; throws ArgumentError for a name or dtype that the binding does not carry. */
at::ScalarType dtypeFromName(const std::string& name);
const char* dtypeName(at::ScalarType dtype);

// ---- handles: externals with a type tag, freed by finalizers that run inside a synchronous loop ----

/** A new handle that owns `tensor` and reports its bytes to the garbage collector. */
napi_value wrapTensor(napi_env env, at::Tensor tensor);
/** The tensor behind a handle. Throws ArgumentError for anything else, or for a tensor that was freed. */
at::Tensor& unwrapTensor(napi_env env, napi_value value);
bool isTensor(napi_env env, napi_value value);
napi_value wrapGenerator(napi_env env, at::Generator generator);
at::Generator& unwrapGenerator(napi_env env, napi_value value);
std::vector<at::Tensor> unwrapTensors(napi_env env, napi_value array);

// ---- what each file adds to the exports ----
using Export = std::pair<const char*, napi_callback>;
std::vector<Export> tensorExports();
std::vector<Export> dispatchExports();
std::vector<Export> autogradExports();
std::vector<Export> randomExports();
std::vector<Export> systemExports();
std::vector<Export> kernelExports();

}  // namespace tschat
