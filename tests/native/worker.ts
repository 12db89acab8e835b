// Run as a worker thread by worker.test.ts: loads the addon a second time in the process, computes, and ends.
import { parentPort } from "node:worker_threads";
import { segment } from "../../src/tensor/autograd.ts";
import { tensor } from "../../src/tensor/create.ts";
import { numThreads, setNumThreads } from "../../src/tensor/system.ts";

setNumThreads(1);
const leaf = tensor([1, 2]).requiresGrad_();
const [doubled] = segment([leaf], [leaf.detach().mul(2)], ([gradient]) => [gradient?.mul(2)]);
doubled?.sum().backward();
// A tensor is left alive on purpose: its finalizer runs while the thread ends.
const kept = tensor([[1, 2], [3, 4]]);
parentPort?.postMessage({ product: kept.matmul(kept).toArray(), gradient: leaf.grad?.toArray(), threads: numThreads() });
