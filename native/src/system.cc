// Threads, processor features, and the signals of a rank that computes.
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/version.h>

#include <csignal>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "support.h"

namespace tschat {

/** Applies to the calling thread: libtorch keeps its thread count per thread, so a worker sets its own. */
static napi_value setNumThreads(napi_env env, napi_callback_info info) {
  Args args(env, info);
  at::set_num_threads(static_cast<int>(args.integer(0)));
  return undefined(env);
}

static napi_value numThreads(napi_env env, napi_callback_info) { return fromNumber(env, at::get_num_threads()); }

static napi_value torchVersion(napi_env env, napi_callback_info) { return fromText(env, TORCH_VERSION); }

/** Whether bfloat16 products run in hardware (AVX-512 bf16 or AMX; on arm64 every Armv8.6 core, asked of nobody yet). */
static napi_value hasFastBfloat16(napi_env env, napi_callback_info) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return fromBoolean(env, __builtin_cpu_supports("avx512bf16"));
#else
  return fromBoolean(env, false);
#endif
}

// A JavaScript handler never runs while a rank computes, so the addon catches the signal and the training loop reads the flag once a step.
static volatile std::sig_atomic_t stopSignal = 0;

static void onStopSignal(int signal) {
  if (stopSignal != 0) _exit(128 + signal);  // the second signal ends at once
  stopSignal = signal;
}

static napi_value catchStopSignals(napi_env env, napi_callback_info) {
  struct sigaction action {};
  action.sa_handler = onStopSignal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  return undefined(env);
}

/** The number of the signal that asked this process to stop, or 0. */
static napi_value readStopSignal(napi_env env, napi_callback_info) { return fromNumber(env, stopSignal); }

/** Ends this process when its parent ends (Linux; elsewhere nothing happens). */
static napi_value dieWithParent(napi_env env, napi_callback_info) {
#ifdef __linux__
  prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
  return undefined(env);
}

/** Gives memory that is free inside the C heap back to the system (glibc; other allocators do it by themselves). */
static napi_value trimHeap(napi_env env, napi_callback_info) {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
  return undefined(env);
}

std::vector<Export> systemExports() {
  return {{"setNumThreads", guarded<setNumThreads>},
          {"numThreads", guarded<numThreads>},
          {"torchVersion", guarded<torchVersion>},
          {"hasFastBfloat16", guarded<hasFastBfloat16>},
          {"catchStopSignals", guarded<catchStopSignals>},
          {"stopSignal", guarded<readStopSignal>},
          {"dieWithParent", guarded<dieWithParent>},
          {"trimHeap", guarded<trimHeap>}};
}

}  // namespace tschat
