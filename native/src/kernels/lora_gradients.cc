// The gradients of low-rank adapters, without that of the matrix that they change.
#include <ATen/ATen.h>

#include "ops.h"

namespace tschat {

std::pair<at::Tensor, at::Tensor> loraGradients(const at::Tensor& product, const at::Tensor& x, const at::Tensor& a, const at::Tensor& b,
                                                at::IntArrayRef rows, double scale) {
  const int64_t parts = static_cast<int64_t>(rows.size()) / 2;
  const at::Tensor narrowB = b.to(x.scalar_type());
  // All parts share their input, which is therefore read twice and not twice a part.
  const at::Tensor inner = x.mm(a.to(x.scalar_type()).t());
  const int64_t rank = b.size(1);
  std::vector<at::Tensor> back, dB;
  int64_t start = 0;
  for (int64_t part = 0; part < parts; part++) {
    const int64_t size = rows[2 * part + 1] - rows[2 * part];
    const at::Tensor gradient = product.narrow(1, rows[2 * part], size);
    back.push_back(gradient.mm(narrowB.narrow(0, start, size)));
    dB.push_back(gradient.t().mm(inner.narrow(1, part * rank, rank)));
    start += size;
  }
  return {at::cat(back, 1).t().mm(x).mul(scale), at::cat(dB).mul(scale)};
}

}  // namespace tschat
