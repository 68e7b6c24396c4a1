// Batch norm with its activation:
//
//   normal = (x - mean) * rstd
//   y      = min(max(normal * scale + bias, 0), ceiling)
//
// A negative ceiling stands for no activation.

#ifndef PROXYLESS_JAX_NN_CPU_KERNELS_NORM_H_
#define PROXYLESS_JAX_NN_CPU_KERNELS_NORM_H_

#include "vectors.h"

namespace proxyless_jax {

// Its vectors f[c].
struct Norm {
  const float *mean, *rstd, *scale, *bias;
  float ceiling;

  Norm(Input mean, Input rstd, Input scale, Input bias, float ceiling)
      : mean(mean.typed_data()), rstd(rstd.typed_data()),
        scale(scale.typed_data()), bias(bias.typed_data()), ceiling(ceiling) {}
};

// A block of channels of them.
struct Block {
  Vec mean, rstd, scale, bias;
  float ceiling;

  Block(const Norm& norm, Channels channels)
      : mean(channels.Load(norm.mean)), rstd(channels.Load(norm.rstd)),
        scale(channels.Load(norm.scale)), bias(channels.Load(norm.bias)),
        ceiling(norm.ceiling) {}

  // NaN stays NaN.
  Vec Output(Vec x) const {
    const Vec y = (x - mean) * (rstd * scale) + bias, top = Vec{} + ceiling;
    if (ceiling < 0) return y;
    const Vec positive = y < 0.0f ? Vec{} : y;
    return top < positive ? top : positive;
  }

  Vec Normal(Vec x) const { return (x - mean) * rstd; }

  // dy where the activation passes it on.
  Vec Passed(Vec normal, Vec dy) const {
    if (ceiling < 0) return dy;
    const Vec y = normal * scale + bias;
    return ((y > 0.0f) & (y < ceiling)) ? dy : Vec{};
  }
};

}  // namespace proxyless_jax

#endif  // PROXYLESS_JAX_NN_CPU_KERNELS_NORM_H_
