// Gradients: entry points of the engine, and segments whose backward runs in JavaScript.
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/variable.h>

#include <thread>

#include "support.h"

namespace tschat {

static napi_value arrayOf(napi_env env, const std::vector<at::Tensor>& tensors) {
  napi_value array;
  check(env, napi_create_array_with_length(env, tensors.size(), &array));
  for (size_t i = 0; i < tensors.size(); i++) {
    check(env, napi_set_element(env, array, i, tensors[i].defined() ? wrapTensor(env, tensors[i]) : null(env)));
  }
  return array;
}

/** Open for a block; closed on every way out, since Node-API aborts the process over a scope that an exception left open. */
class HandleScope {
 public:
  explicit HandleScope(napi_env env) : env_(env) { check(env, napi_open_handle_scope(env, &scope_)); }
  ~HandleScope() { napi_close_handle_scope(env_, scope_); }
  HandleScope(const HandleScope&) = delete;
  HandleScope& operator=(const HandleScope&) = delete;

 private:
  napi_env env_;
  napi_handle_scope scope_;
};

/**
 * One node of the graph whose derivative is a JavaScript function. The engine runs with multithreading off, so the
 * call comes on the thread that called backward(); on any other thread it throws instead of touching the wrong isolate.
 */
struct SegmentNode : torch::autograd::Node {
  napi_env env;
  napi_ref callback = nullptr;
  std::thread::id thread;

  ~SegmentNode() override { release_variables(); }

  void release_variables() override {
    if (callback == nullptr) return;
    napi_delete_reference(env, callback);
    callback = nullptr;
  }

  std::string name() const override { return "TschatSegment"; }

  torch::autograd::variable_list apply(torch::autograd::variable_list&& gradients) override {
    TORCH_CHECK(std::this_thread::get_id() == thread, "a segment's backward was called on another thread than its forward");
    TORCH_CHECK(callback != nullptr, "backward through the same segment a second time; its saved values are gone");
    const bool gradMode = c10::GradMode::is_enabled();
    const HandleScope scope(env);
    napi_value function, result, argument = arrayOf(env, gradients);
    check(env, napi_get_reference_value(env, callback, &function));
    const napi_status status = napi_call_function(env, undefined(env), function, 1, &argument, &result);
    c10::GradMode::set_enabled(gradMode);
    check(env, status);
    torch::autograd::variable_list out;
    uint32_t length = 0;
    check(env, napi_get_array_length(env, result, &length));
    TORCH_CHECK(length == num_outputs(), "a segment's backward returned ", length, " gradients for ", num_outputs(), " inputs");
    for (uint32_t i = 0; i < length; i++) {
      napi_value element;
      check(env, napi_get_element(env, result, i, &element));
      out.push_back(typeOf(env, element) == napi_null ? at::Tensor() : unwrapTensor(env, element));
    }
    return out;
  }
};

/**
 * (inputs, outputs, backward) -> outputs joined to the graph as if one function had made them from the inputs.
 * backward(gradients of the outputs, null where none came) returns the gradients of the inputs, null where none.
 */
static napi_value segment(napi_env env, napi_callback_info info) {
  Args args(env, info);
  const std::vector<at::Tensor> inputs = unwrapTensors(env, args[0]);
  std::vector<at::Tensor> outputs = unwrapTensors(env, args[1]);
  if (!torch::autograd::compute_requires_grad(inputs)) return arrayOf(env, outputs);
  const auto node = c10::make_intrusive<SegmentNode>();
  node->env = env;
  node->thread = std::this_thread::get_id();
  check(env, napi_create_reference(env, args[2], 1, &node->callback));
  node->set_next_edges(torch::autograd::collect_next_edges(inputs));
  for (at::Tensor& output : outputs) {
    output = output.detach();
    torch::autograd::create_gradient_edge(output, node);
  }
  return arrayOf(env, outputs);
}

/** (tensors, gradients or null each): runs the engine; gradients add up in the leaves' .grad. */
static napi_value backward(napi_env env, napi_callback_info info) {
  Args args(env, info);
  const std::vector<at::Tensor> tensors = unwrapTensors(env, args[0]);
  std::vector<at::Tensor> gradients;
  for (uint32_t i = 0; i < tensors.size(); i++) {
    napi_value element;
    check(env, napi_get_element(env, args[1], i, &element));
    gradients.push_back(isTensor(env, element) ? unwrapTensor(env, element) : at::Tensor());
  }
  torch::autograd::backward(tensors, gradients);
  return undefined(env);
}

static napi_value gradOf(napi_env env, napi_callback_info info) {
  Args args(env, info);
  const at::Tensor gradient = unwrapTensor(env, args[0]).grad();
  return gradient.defined() ? wrapTensor(env, gradient) : null(env);
}

/** (leaf, gradient or null): later backwards accumulate into exactly this tensor, which may be float32 under a bfloat16 leaf. */
static napi_value setGrad(napi_env env, napi_callback_info info) {
  Args args(env, info);
  unwrapTensor(env, args[0]).mutable_grad() = args.isNullish(1) ? at::Tensor() : unwrapTensor(env, args[1]);
  return undefined(env);
}

static napi_value setRequiresGrad(napi_env env, napi_callback_info info) {
  Args args(env, info);
  unwrapTensor(env, args[0]).requires_grad_(args.boolean(1));
  return undefined(env);
}

static napi_value requiresGrad(napi_env env, napi_callback_info info) {
  Args args(env, info);
  return fromBoolean(env, unwrapTensor(env, args[0]).requires_grad());
}

/** Sets this thread's grad mode and returns what it was. */
static napi_value setGradEnabled(napi_env env, napi_callback_info info) {
  Args args(env, info);
  const bool before = c10::GradMode::is_enabled();
  c10::GradMode::set_enabled(args.boolean(0));
  return fromBoolean(env, before);
}

std::vector<Export> autogradExports() {
  return {{"segment", guarded<segment>},
          {"backward", guarded<backward>},
          {"gradOf", guarded<gradOf>},
          {"setGrad", guarded<setGrad>},
          {"setRequiresGrad", guarded<setRequiresGrad>},
          {"requiresGrad", guarded<requiresGrad>},
          {"setGradEnabled", guarded<setGradEnabled>}};
}

}  // namespace tschat
