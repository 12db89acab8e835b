// Any registered operator, called through the dispatcher by its schema.
#include <ATen/core/dispatch/Dispatcher.h>

#include <cmath>
#include <mutex>

#include "support.h"

namespace tschat {

// Operators live as long as the process; an OpHandle is an index into this list.
static std::mutex opsMutex;
static std::vector<c10::OperatorHandle> ops;

static napi_value findOp(napi_env env, napi_callback_info info) {
  Args args(env, info);
  const std::string name = args.text(0), overload = args.text(1);
  const auto op = c10::Dispatcher::singleton().findSchema({name, overload});
  if (!op) throw ArgumentError("libtorch has no operator " + name + (overload.empty() ? "" : "." + overload));
  const std::lock_guard lock(opsMutex);
  ops.push_back(*op);
  return fromNumber(env, static_cast<double>(ops.size() - 1));
}

static c10::OperatorHandle opAt(int64_t index) {
  const std::lock_guard lock(opsMutex);
  if (index < 0 || index >= static_cast<int64_t>(ops.size())) throw ArgumentError("expected an operator handle");
  return ops[index];
}

static napi_value schemaOf(napi_env env, napi_callback_info info) {
  Args args(env, info);
  return fromText(env, c10::toString(opAt(args.integer(0)).schema()));
}

static napi_value countOps(napi_env env, napi_callback_info) {
  return fromNumber(env, static_cast<double>(c10::Dispatcher::singleton().getAllOpNames().size()));
}

static double toDouble(napi_env env, napi_value value) {
  double number;
  check(env, napi_get_value_double(env, value, &number));
  return number;
}

static bool toBoolean(napi_env env, napi_value value) {
  bool boolean;
  check(env, napi_get_value_bool(env, value, &boolean));
  return boolean;
}

static at::Scalar toScalar(napi_env env, napi_value value) {
  switch (typeOf(env, value)) {
    case napi_boolean: return toBoolean(env, value);
    case napi_bigint: {
      int64_t integer;
      bool lossless;
      check(env, napi_get_value_bigint_int64(env, value, &integer, &lossless));
      if (!lossless) throw ArgumentError("a bigint argument does not fit int64");
      return integer;
    }
    default: {
      // A whole number stays an integer, as in Python, so that int64 tensors stay int64; the operator promotes where it must.
      const double number = toDouble(env, value);
      if (number == std::trunc(number) && std::abs(number) < 9e15) return static_cast<int64_t>(number);
      return number;
    }
  }
}

static c10::IValue convert(napi_env env, napi_value value, const c10::Type& type);

static c10::IValue convertList(napi_env env, napi_value value, const c10::Type& elementType) {
  uint32_t length = 0;
  check(env, napi_get_array_length(env, value, &length));
  const auto element = [&](uint32_t i) {
    napi_value result;
    check(env, napi_get_element(env, value, i, &result));
    return result;
  };
  switch (elementType.kind()) {
    case c10::TypeKind::TensorType: {
      c10::List<at::Tensor> list;
      list.reserve(length);
      for (uint32_t i = 0; i < length; i++) list.push_back(unwrapTensor(env, element(i)));
      return list;
    }
    case c10::TypeKind::OptionalType: {
      c10::List<std::optional<at::Tensor>> list;
      for (uint32_t i = 0; i < length; i++) {
        const napi_valuetype kind = typeOf(env, element(i));
        if (kind == napi_null || kind == napi_undefined) list.push_back(std::nullopt);
        else list.push_back(unwrapTensor(env, element(i)));
      }
      return list;
    }
    case c10::TypeKind::FloatType: {
      c10::List<double> list;
      for (uint32_t i = 0; i < length; i++) list.push_back(toDouble(env, element(i)));
      return list;
    }
    case c10::TypeKind::BoolType: {
      c10::List<bool> list;
      for (uint32_t i = 0; i < length; i++) list.push_back(toBoolean(env, element(i)));
      return list;
    }
    case c10::TypeKind::NumberType: {
      c10::List<at::Scalar> list;
      for (uint32_t i = 0; i < length; i++) list.push_back(toScalar(env, element(i)));
      return list;
    }
    default: return toIntegers(env, value);  // int[] and SymInt[]
  }
}

static c10::IValue convert(napi_env env, napi_value value, const c10::Type& type) {
  switch (type.kind()) {
    case c10::TypeKind::OptionalType: {
      const napi_valuetype kind = typeOf(env, value);
      if (kind == napi_null || kind == napi_undefined) return c10::IValue();
      return convert(env, value, *type.castRaw<c10::OptionalType>()->getElementType());
    }
    case c10::TypeKind::TensorType: return unwrapTensor(env, value);
    case c10::TypeKind::IntType:
    case c10::TypeKind::SymIntType:
    case c10::TypeKind::LayoutType:
    case c10::TypeKind::MemoryFormatType: return toInteger(env, value);
    case c10::TypeKind::ScalarTypeType: return static_cast<int64_t>(dtypeFromName(toText(env, value)));
    case c10::TypeKind::FloatType: return toDouble(env, value);
    case c10::TypeKind::BoolType: return toBoolean(env, value);
    case c10::TypeKind::NumberType: return toScalar(env, value);
    case c10::TypeKind::DeviceObjType: return c10::Device(toText(env, value));
    case c10::TypeKind::GeneratorType: return unwrapGenerator(env, value);
    // c10d's operators declare their group as Any and take its name.
    case c10::TypeKind::AnyType:
    case c10::TypeKind::StringType: return toText(env, value);
    case c10::TypeKind::ListType: return convertList(env, value, *type.castRaw<c10::ListType>()->getElementType());
    default: throw ArgumentError("no conversion to an argument of type " + type.str());
  }
}

static napi_value toJs(napi_env env, const c10::IValue& value);

template <typename Elements>
static napi_value arrayToJs(napi_env env, const Elements& elements) {
  napi_value array;
  check(env, napi_create_array_with_length(env, elements.size(), &array));
  uint32_t i = 0;
  for (const auto& element : elements) check(env, napi_set_element(env, array, i++, toJs(env, c10::IValue(element))));
  return array;
}

static napi_value toJs(napi_env env, const c10::IValue& value) {
  if (value.isTensor()) return value.toTensor().defined() ? wrapTensor(env, value.toTensor()) : null(env);
  if (value.isNone()) return null(env);
  if (value.isInt()) return fromNumber(env, static_cast<double>(value.toInt()));
  if (value.isDouble()) return fromNumber(env, value.toDouble());
  if (value.isBool()) return fromBoolean(env, value.toBool());
  if (value.isScalar()) return fromNumber(env, value.toScalar().toDouble());
  if (value.isString()) return fromText(env, value.toStringRef());
  if (value.isTensorList()) return arrayToJs(env, value.toTensorVector());
  if (value.isList()) return arrayToJs(env, value.toListRef());
  throw ArgumentError("no conversion from a result of type " + value.tagKind());
}

/** (op, ...arguments): an argument left out or undefined takes the schema's default; null is None. */
static napi_value callOp(napi_env env, napi_callback_info info) {
  Args args(env, info);
  const c10::OperatorHandle op = opAt(args.integer(0));
  const std::vector<c10::Argument>& declared = op.schema().arguments();
  if (args.count > declared.size() + 1) throw ArgumentError("the operator takes " + std::to_string(declared.size()) + " arguments");
  torch::jit::Stack stack;
  stack.reserve(declared.size());
  for (size_t i = 0; i < declared.size(); i++) {
    const napi_value value = args[i + 1];
    if (typeOf(env, value) == napi_undefined) {
      if (declared[i].default_value()) stack.push_back(*declared[i].default_value());
      else if (declared[i].type()->kind() == c10::TypeKind::OptionalType) stack.emplace_back();
      else throw ArgumentError("argument \"" + declared[i].name() + "\" is missing");
    } else {
      // The real type tells a dtype from an int; the plain type has lost it.
      stack.push_back(convert(env, value, *declared[i].real_type()));
    }
  }
  op.callBoxed(&stack);
  if (stack.empty()) return undefined(env);
  return stack.size() == 1 ? toJs(env, stack.front()) : arrayToJs(env, stack);
}

std::vector<Export> dispatchExports() {
  return {{"findOp", guarded<findOp>}, {"callOp", guarded<callOp>}, {"schemaOf", guarded<schemaOf>}, {"countOps", guarded<countOps>}};
}

}  // namespace tschat
