// Tensor handles, and data in and out of them.
#include <atomic>
#include <cstring>
#include <mutex>
#include <unordered_map>

#include "support.h"

namespace tschat {

static std::atomic<int64_t> liveTensors{0};
static std::atomic<int64_t> liveBytes{0};

/** What an external points to; `storage` is what `counted` knows it by, or null. */
struct TensorBox {
  at::Tensor tensor;
  const c10::StorageImpl* storage;
};

// One random tag a handle kind: an external made by anybody else is refused instead of being read as a tensor.
static const napi_type_tag kTensorTag{0x6f0c3bd4a71e4f1dULL, 0x9a35e0b7c24d8816ULL};
static const napi_type_tag kGeneratorTag{0x2d9be15c07f348a2ULL, 0xb8416c5f9e03d77aULL};

/** A handle costs memory beyond its data (TensorImpl, external, wrapper): without it a million tiny tensors would look free. */
static constexpr int64_t kHandleBytes = 512;

/**
 * Storages that handles point into: their bytes are reported once, with the first handle, and taken back with the last.
 * So neither a view nor an in-place result looks like a large allocation, and a result that the graph also saves for
 * backward still counts. Never destroyed: finalizers may run while the process ends.
 */
struct Counted {
  int64_t handles = 0;
  int64_t bytes = 0;
};
static std::mutex countedMutex;
static auto& counted = *new std::unordered_map<const c10::StorageImpl*, Counted>();

/**
 * V8 begins to collect when about 64 MiB more are reported than after the last time, and marks while the loop goes on allocating: told
 * the plain bytes it lets up to 137 dropped tensors of 1 MiB lie (430 MB resident at worst), told twice as many 108 (382 MB).
 */
static constexpr int64_t kPressure = 2;

static void report(node_api_basic_env env, int64_t bytes) {
  int64_t total;
  napi_adjust_external_memory(env, kPressure * bytes, &total);
  liveBytes += bytes;
}

static void count(node_api_basic_env env, TensorBox& box) {
  int64_t bytes = kHandleBytes;
  if (box.tensor.has_storage()) {
    box.storage = box.tensor.storage().unsafeGetStorageImpl();
    const std::lock_guard lock(countedMutex);
    Counted& storage = counted[box.storage];
    if (storage.handles++ == 0) bytes += storage.bytes = static_cast<int64_t>(box.storage->nbytes());
  }
  report(env, bytes);
}

/** Drops the tensor; a box that is empty already stays as it is. */
static void release(node_api_basic_env env, TensorBox& box) {
  if (!box.tensor.defined()) return;
  int64_t bytes = kHandleBytes;
  if (box.storage != nullptr) {
    const std::lock_guard lock(countedMutex);
    const auto storage = counted.find(box.storage);
    if (--storage->second.handles == 0) {
      bytes += storage->second.bytes;
      counted.erase(storage);
    }
  }
  // Only now: the address may belong to another storage as soon as this one is gone.
  box.tensor = at::Tensor();
  report(env, -bytes);
}

static void finalizeTensor(node_api_basic_env env, void* data, void*) {
  auto* box = static_cast<TensorBox*>(data);
  release(env, *box);
  liveTensors--;
  delete box;
}

napi_value wrapTensor(napi_env env, at::Tensor tensor) {
  auto* box = new TensorBox{std::move(tensor), nullptr};
  liveTensors++;
  napi_value value;
  const napi_status status = napi_create_external(env, box, finalizeTensor, nullptr, &value);
  if (status != napi_ok) {
    liveTensors--;
    delete box;
    check(env, status);
  }
  check(env, napi_type_tag_object(env, value, &kTensorTag));
  count(env, *box);
  return value;
}

static bool hasTag(napi_env env, napi_value value, const napi_type_tag& tag) {
  if (typeOf(env, value) != napi_external) return false;
  bool matches = false;
  check(env, napi_check_object_type_tag(env, value, &tag, &matches));
  return matches;
}

bool isTensor(napi_env env, napi_value value) { return hasTag(env, value, kTensorTag); }

static TensorBox& unwrapBox(napi_env env, napi_value value) {
  if (!isTensor(env, value)) throw ArgumentError("expected a tensor handle");
  void* data;
  check(env, napi_get_value_external(env, value, &data));
  return *static_cast<TensorBox*>(data);
}

at::Tensor& unwrapTensor(napi_env env, napi_value value) {
  at::Tensor& tensor = unwrapBox(env, value).tensor;
  if (!tensor.defined()) throw ArgumentError("this tensor was freed (by tidy() or dispose()) and cannot be used any more");
  return tensor;
}

std::vector<at::Tensor> unwrapTensors(napi_env env, napi_value array) {
  uint32_t length = 0;
  check(env, napi_get_array_length(env, array, &length));
  std::vector<at::Tensor> tensors;
  tensors.reserve(length);
  for (uint32_t i = 0; i < length; i++) {
    napi_value element;
    check(env, napi_get_element(env, array, i, &element));
    tensors.push_back(unwrapTensor(env, element));
  }
  return tensors;
}

static void finalizeGenerator(node_api_basic_env, void* data, void*) { delete static_cast<at::Generator*>(data); }

napi_value wrapGenerator(napi_env env, at::Generator generator) {
  auto* owned = new at::Generator(std::move(generator));
  napi_value value;
  const napi_status status = napi_create_external(env, owned, finalizeGenerator, nullptr, &value);
  if (status != napi_ok) {
    delete owned;
    check(env, status);
  }
  check(env, napi_type_tag_object(env, value, &kGeneratorTag));
  return value;
}

at::Generator& unwrapGenerator(napi_env env, napi_value value) {
  if (!hasTag(env, value, kGeneratorTag)) throw ArgumentError("expected a generator handle");
  void* data;
  check(env, napi_get_value_external(env, value, &data));
  return *static_cast<at::Generator*>(data);
}

/** (typed array, shape, dtype) -> tensor; one copy. A Uint16Array is taken as the raw bits of bfloat16 or float16. */
static napi_value fromData(napi_env env, napi_callback_info info) {
  Args args(env, info);
  napi_typedarray_type type;
  size_t length;
  void* data;
  check(env, napi_get_typedarray_info(env, args[0], &type, &length, &data, nullptr, nullptr));
  const std::vector<int64_t> shape = args.integers(1);
  const at::ScalarType wanted = dtypeFromName(args.text(2));
  at::ScalarType source;
  switch (type) {
    case napi_float32_array: source = at::kFloat; break;
    case napi_float64_array: source = at::kDouble; break;
    case napi_bigint64_array: source = at::kLong; break;
    case napi_int32_array: source = at::kInt; break;
    case napi_int16_array: source = at::kShort; break;
    case napi_int8_array: source = at::kChar; break;
    case napi_uint8_array:
    case napi_uint8_clamped_array: source = wanted == at::kBool ? at::kBool : at::kByte; break;
    case napi_uint16_array:
      if (wanted != at::kBFloat16 && wanted != at::kHalf) throw ArgumentError("a Uint16Array holds raw bfloat16 or float16 bits only");
      source = wanted;
      break;
    default: throw ArgumentError("this kind of typed array has no tensor dtype");
  }
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  if (count != static_cast<int64_t>(length)) {
    throw ArgumentError("the shape holds " + std::to_string(count) + " elements, the data " + std::to_string(length));
  }
  at::Tensor tensor = at::empty(shape, at::TensorOptions().dtype(source));
  if (length > 0) std::memcpy(tensor.data_ptr(), data, tensor.nbytes());
  return wrapTensor(env, source == wanted ? tensor : tensor.to(wanted));
}

/** tensor -> typed array of its elements in row-major order; bfloat16 and float16 come as Float32Array, bool as Uint8Array. */
static napi_value toData(napi_env env, napi_callback_info info) {
  Args args(env, info);
  const at::Tensor tensor = unwrapTensor(env, args[0]).detach();
  at::ScalarType dtype = tensor.scalar_type();
  napi_typedarray_type type;
  switch (dtype) {
    case at::kBFloat16:
    case at::kHalf:
    case at::kFloat: dtype = at::kFloat; type = napi_float32_array; break;
    case at::kDouble: type = napi_float64_array; break;
    case at::kLong: type = napi_bigint64_array; break;
    case at::kInt: type = napi_int32_array; break;
    case at::kShort: type = napi_int16_array; break;
    case at::kChar: type = napi_int8_array; break;
    case at::kBool:
    case at::kByte: type = napi_uint8_array; break;
    default: throw ArgumentError(std::string("no typed array holds dtype ") + c10::toString(dtype));
  }
  const size_t bytes = static_cast<size_t>(tensor.numel()) * c10::elementSize(dtype);
  void* data;
  napi_value buffer, array;
  check(env, napi_create_arraybuffer(env, bytes, &data, &buffer));
  if (bytes > 0) at::from_blob(data, tensor.sizes(), at::TensorOptions().dtype(dtype)).copy_(tensor);
  check(env, napi_create_typedarray(env, type, tensor.numel(), buffer, 0, &array));
  return array;
}

/** tensor -> Uint8Array, a copy of its elements' bytes in row-major order and its own dtype (for files). */
static napi_value toBytes(napi_env env, napi_callback_info info) {
  Args args(env, info);
  const at::Tensor tensor = unwrapTensor(env, args[0]).detach();
  void* data;
  napi_value buffer, array;
  check(env, napi_create_arraybuffer(env, tensor.nbytes(), &data, &buffer));
  if (tensor.nbytes() > 0) at::from_blob(data, tensor.sizes(), at::TensorOptions().dtype(tensor.scalar_type())).copy_(tensor);
  check(env, napi_create_typedarray(env, napi_uint8_array, tensor.nbytes(), buffer, 0, &array));
  return array;
}

static napi_value shapeOf(napi_env env, napi_callback_info info) {
  Args args(env, info);
  return fromIntegers(env, unwrapTensor(env, args[0]).sizes());
}

static napi_value dtypeOf(napi_env env, napi_callback_info info) {
  Args args(env, info);
  return fromText(env, dtypeName(unwrapTensor(env, args[0]).scalar_type()));
}

static napi_value deviceOf(napi_env env, napi_callback_info info) {
  Args args(env, info);
  return fromText(env, unwrapTensor(env, args[0]).device().str());
}

/** The address of the first element, for tests that must know whether two tensors share memory. */
static napi_value addressOf(napi_env env, napi_callback_info info) {
  Args args(env, info);
  return fromNumber(env, static_cast<double>(reinterpret_cast<uintptr_t>(unwrapTensor(env, args[0]).data_ptr())));
}

static napi_value itemOf(napi_env env, napi_callback_info info) {
  Args args(env, info);
  return fromNumber(env, unwrapTensor(env, args[0]).item().toDouble());
}

/** Drops the tensor now; the handle stays and any later use of it throws. Freeing twice is allowed. */
static napi_value freeTensor(napi_env env, napi_callback_info info) {
  Args args(env, info);
  release(env, unwrapBox(env, args[0]));
  return undefined(env);
}

static napi_value tensorMemory(napi_env env, napi_callback_info) {
  napi_value object;
  check(env, napi_create_object(env, &object));
  check(env, napi_set_named_property(env, object, "liveTensors", fromNumber(env, static_cast<double>(liveTensors))));
  check(env, napi_set_named_property(env, object, "liveBytes", fromNumber(env, static_cast<double>(liveBytes))));
  return object;
}

std::vector<Export> tensorExports() {
  return {{"fromData", guarded<fromData>}, {"toData", guarded<toData>},       {"toBytes", guarded<toBytes>},
          {"shapeOf", guarded<shapeOf>},   {"dtypeOf", guarded<dtypeOf>},     {"deviceOf", guarded<deviceOf>},
          {"itemOf", guarded<itemOf>},     {"addressOf", guarded<addressOf>}, {"freeTensor", guarded<freeTensor>},
          {"tensorMemory", guarded<tensorMemory>}};
}

}  // namespace tschat
