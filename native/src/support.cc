#include "support.h"

#include <c10/util/Exception.h>

#include <array>
#include <cmath>
#include <utility>

namespace tschat {

void check(napi_env env, napi_status status) {
  if (status == napi_ok) return;
  bool pending = false;
  napi_is_exception_pending(env, &pending);
  if (pending) throw PendingException();
  const napi_extended_error_info* info = nullptr;
  napi_get_last_error_info(env, &info);
  throw ArgumentError(info && info->error_message ? info->error_message : "Node-API call failed");
}

static bool isAllocationFailure(const std::string& message) {
  return message.find("not enough memory") != std::string::npos || message.find("can't allocate memory") != std::string::npos ||
         message.find("out of memory") != std::string::npos;
}

void throwToJs(napi_env env) noexcept {
  bool pending = false;
  napi_is_exception_pending(env, &pending);
  if (pending) return;  // an error thrown by a JavaScript callback crosses as it is
  try {
    throw;
  } catch (const PendingException&) {
  } catch (const ArgumentError& error) {
    napi_throw_type_error(env, "E_ARGUMENT", error.what());
  } catch (const c10::Error& error) {
    const std::string message = error.what_without_backtrace();
    napi_throw_error(env, isAllocationFailure(message) ? "E_MEMORY" : "E_NATIVE", message.c_str());
  } catch (const std::bad_alloc&) {
    napi_throw_error(env, "E_MEMORY", "the allocation failed: not enough memory");
  } catch (const std::exception& error) {
    const std::string message = error.what();
    napi_throw_error(env, isAllocationFailure(message) ? "E_MEMORY" : "E_NATIVE", message.c_str());
  } catch (...) {
    napi_throw_error(env, "E_NATIVE", "internal: unknown C++ exception");
  }
}

Args::Args(napi_env e, napi_callback_info info) : env(e) {
  count = kMax;
  check(env, napi_get_cb_info(env, info, &count, values_, nullptr, nullptr));
  if (count > kMax) throw ArgumentError("internal: too many arguments");
}

napi_value Args::operator[](size_t index) const { return index < count ? values_[index] : undefined(env); }

bool Args::isNullish(size_t index) const {
  const napi_valuetype type = typeOf(env, (*this)[index]);
  return type == napi_undefined || type == napi_null;
}

std::string Args::text(size_t index) const { return toText(env, (*this)[index]); }

int64_t Args::integer(size_t index) const { return toInteger(env, (*this)[index]); }

double Args::number(size_t index) const {
  double value;
  check(env, napi_get_value_double(env, (*this)[index], &value));
  return value;
}

bool Args::boolean(size_t index) const {
  bool value;
  check(env, napi_get_value_bool(env, (*this)[index], &value));
  return value;
}

std::vector<int64_t> Args::integers(size_t index) const { return toIntegers(env, (*this)[index]); }

napi_valuetype typeOf(napi_env env, napi_value value) {
  napi_valuetype type;
  check(env, napi_typeof(env, value, &type));
  return type;
}

napi_value undefined(napi_env env) {
  napi_value value;
  check(env, napi_get_undefined(env, &value));
  return value;
}

napi_value null(napi_env env) {
  napi_value value;
  check(env, napi_get_null(env, &value));
  return value;
}

napi_value fromNumber(napi_env env, double number) {
  napi_value value;
  check(env, napi_create_double(env, number, &value));
  return value;
}

napi_value fromBoolean(napi_env env, bool boolean) {
  napi_value value;
  check(env, napi_get_boolean(env, boolean, &value));
  return value;
}

napi_value fromText(napi_env env, const std::string& text) {
  napi_value value;
  check(env, napi_create_string_utf8(env, text.data(), text.size(), &value));
  return value;
}

napi_value fromIntegers(napi_env env, at::IntArrayRef values) {
  napi_value array;
  check(env, napi_create_array_with_length(env, values.size(), &array));
  for (size_t i = 0; i < values.size(); i++) check(env, napi_set_element(env, array, i, fromNumber(env, static_cast<double>(values[i]))));
  return array;
}

std::string toText(napi_env env, napi_value value) {
  size_t length = 0;
  check(env, napi_get_value_string_utf8(env, value, nullptr, 0, &length));
  std::string text(length, '\0');
  check(env, napi_get_value_string_utf8(env, value, text.data(), length + 1, &length));
  return text;
}

int64_t toInteger(napi_env env, napi_value value) {
  double number;
  check(env, napi_get_value_double(env, value, &number));
  if (number != std::trunc(number) || std::abs(number) > 9007199254740991.0) {
    throw ArgumentError("expected a whole number, got " + std::to_string(number));
  }
  return static_cast<int64_t>(number);
}

std::vector<int64_t> toIntegers(napi_env env, napi_value value) {
  uint32_t length = 0;
  check(env, napi_get_array_length(env, value, &length));
  std::vector<int64_t> integers(length);
  for (uint32_t i = 0; i < length; i++) {
    napi_value element;
    check(env, napi_get_element(env, value, i, &element));
    integers[i] = toInteger(env, element);
  }
  return integers;
}

static constexpr std::array<std::pair<const char*, at::ScalarType>, 10> kDtypes{{
    {"float32", at::kFloat},
    {"bfloat16", at::kBFloat16},
    {"int64", at::kLong},
    {"bool", at::kBool},
    {"float64", at::kDouble},
    {"float16", at::kHalf},
    {"int32", at::kInt},
    {"int16", at::kShort},
    {"int8", at::kChar},
    {"uint8", at::kByte},
}};

at::ScalarType dtypeFromName(const std::string& name) {
  for (const auto& [known, dtype] : kDtypes)
    if (name == known) return dtype;
  throw ArgumentError("unknown dtype " + name);
}

const char* dtypeName(at::ScalarType dtype) {
  for (const auto& [name, known] : kDtypes)
    if (dtype == known) return name;
  throw ArgumentError(std::string("the binding does not carry dtype ") + c10::toString(dtype));
}

}  // namespace tschat
