// Batch norm with its activation: see ../layers/batch_norm.py.
//
// A map f[b, h, w, c] is seen as n rows of c numbers.

#include <array>
#include <vector>

#include "norm.h"
#include "vectors.h"

namespace proxyless_jax {
namespace {

// Rows of a unit of work.
constexpr int64_t kRows = 256;

// One block of `SumRows`, over the rows of a unit.
template <int N, typename Term>
void SumBlock(Channels channels, Term term, int64_t begin, int64_t end,
              float* out, int64_t c) {
  const auto of_row = term(channels);
  // Two rows at a time: additions that do not wait for each other.
  std::array<Vec, N> even = {}, odd = {};
  int64_t row = begin;
  for (; row + 1 < end; row += 2) {
    of_row(row * c, even);
    of_row(row * c + c, odd);
  }
  if (row < end) of_row(row * c, even);
  for (int i = 0; i < N; ++i) channels.Store(out + i * c, even[i] + odd[i]);
}

// A whole group of blocks, all of each row.
template <int N, typename Term>
void SumGroup(const Group& group, Term term, int64_t begin, int64_t end,
              float* out) {
  static_assert(kGroup == 4);
  const auto term0 = term(group[0]), term1 = term(group[1]);
  const auto term2 = term(group[2]), term3 = term(group[3]);
  std::array<Vec, N> sums[kGroup] = {};
  for (int64_t row = begin; row < end; ++row) {
    term0(row * group.c, sums[0]);
    term1(row * group.c, sums[1]);
    term2(row * group.c, sums[2]);
    term3(row * group.c, sums[3]);
  }
  for (int64_t block = 0; block < kGroup; ++block) {
    for (int i = 0; i < N; ++i) {
      group[block].Store(out + i * group.c, sums[block][i]);
    }
  }
}

// Sums over rows of the vectors f[c] that term(row, channels) returns.
//
// Those of a unit's few rows are in float32, those over units in float64: a
// variance is the small difference of two such sums.
template <int N, typename Term>
void SumRows(ffi::ThreadPool& pool, int64_t n, int64_t c, Term term,
             std::array<float*, N> sums) {
  const int64_t units = CeilDiv(n, kRows);
  std::vector<float> all_sums(units * N * c);
  float* unit_sums = all_sums.data();  // [units][N][c]
  ParallelFor(pool, units, [=](int64_t unit) {
    const int64_t begin = unit * kRows, end = std::min(n, begin + kRows);
    float* out = unit_sums + unit * N * c;
    for (int64_t index = 0; index * kGroup * kLanes < c; ++index) {
      const Group group(index, c);
      if (group.count == kGroup) {
        SumGroup<N>(group, term, begin, end, out);
        continue;
      }
      for (int64_t block = 0; block < group.count; ++block) {
        SumBlock<N>(group[block], term, begin, end, out, c);
      }
    }
  });
  for (int i = 0; i < N; ++i) {
    AddUp(unit_sums + i * c, units, N * c, c, sums[i]);
  }
}

// Means of x and of its squares.
ffi::Error Moments(ffi::ThreadPool pool, Input x, Output mean, Output square) {
  const int64_t c = x.dimensions().back(), n = x.element_count() / c;
  const float* from = x.typed_data();
  const std::array<float*, 2> means = {mean->typed_data(),
                                       square->typed_data()};
  const auto term = [=](Channels channels) {
    return [=](int64_t at, std::array<Vec, 2>& sums) {
      const Vec value = channels.Load(from + at);
      sums[0] += value;
      sums[1] += value * value;
    };
  };
  SumRows<2>(pool, n, c, term, means);
  for (float* of : means) {
    for (int64_t j = 0; j < c; ++j) of[j] /= n;
  }
  return ffi::Error::Success();
}

// Calls body(offset of a row, channels, block) for all rows and blocks.
template <typename Body>
void ForAllRows(ffi::ThreadPool& pool, int64_t n, int64_t c, Norm norm,
                Body body) {
  ParallelFor(pool, CeilDiv(n, kRows), [=](int64_t unit) {
    const int64_t end = std::min(n, (unit + 1) * kRows);
    // In the order of memory.
    for (int64_t row = unit * kRows; row < end; ++row) {
      for (int64_t block = 0; block < CeilDiv(c, kLanes); ++block) {
        const Channels channels(block, c);
        body(row * c, channels, Block(norm, channels));
      }
    }
  });
}

ffi::Error Normalise(ffi::ThreadPool pool, Input x, Input mean, Input rstd,
                     Input scale, Input bias, Output y, float ceiling) {
  const int64_t c = x.dimensions().back(), n = x.element_count() / c;
  const float* from = x.typed_data();
  float* to = y->typed_data();
  ForAllRows(pool, n, c, Norm(mean, rstd, scale, bias, ceiling),
             [=](int64_t at, Channels channels, const Block& block) {
               const Vec value = channels.Load(from + at);
               channels.Store(to + at, block.Output(value));
             });
  return ffi::Error::Success();
}

// dbias = sum of what passes the activation, dscale = sum of it times normal.
ffi::Error GradientSums(ffi::ThreadPool pool, Input x, Input dy, Input mean,
                        Input rstd, Input scale, Input bias, Output dbias,
                        Output dscale, float ceiling) {
  const int64_t c = x.dimensions().back(), n = x.element_count() / c;
  const float *from = x.typed_data(), *gradient = dy.typed_data();
  const Norm norm(mean, rstd, scale, bias, ceiling);
  const auto term = [=](Channels channels) {
    const Block block(norm, channels);
    return [=](int64_t at, std::array<Vec, 2>& sums) {
      const Vec normal = block.Normal(channels.Load(from + at));
      const Vec passed = block.Passed(normal, channels.Load(gradient + at));
      sums[0] += passed;
      sums[1] += passed * normal;
    };
  };
  SumRows<2>(pool, n, c, term, {dbias->typed_data(), dscale->typed_data()});
  return ffi::Error::Success();
}

// dx, with the two sums divided by the number of rows, of all devices.
ffi::Error InputGradient(ffi::ThreadPool pool, Input x, Input dy, Input mean,
                         Input rstd, Input scale, Input bias, Input mean_dbias,
                         Input mean_dscale, Output dx, float ceiling) {
  const int64_t c = x.dimensions().back(), n = x.element_count() / c;
  const float *from = x.typed_data(), *gradient = dy.typed_data();
  const float* dbias = mean_dbias.typed_data();
  const float* dscale = mean_dscale.typed_data();
  float* to = dx->typed_data();
  ForAllRows(
      pool, n, c, Norm(mean, rstd, scale, bias, ceiling),
      [=](int64_t at, Channels channels, const Block& block) {
        const Vec normal = block.Normal(channels.Load(from + at));
        const Vec passed = block.Passed(normal, channels.Load(gradient + at));
        const Vec rest = passed - channels.Load(dbias) -
                         normal * channels.Load(dscale);
        channels.Store(to + at, rest * (block.scale * block.rstd));
      });
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(proxyless_jax_moments, Moments,
                              (Signature<1, 2>()));
XLA_FFI_DEFINE_HANDLER_SYMBOL(proxyless_jax_normalise, Normalise,
                              Signature<5>().Attr<float>("ceiling"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(proxyless_jax_norm_gradient_sums, GradientSums,
                              (Signature<6, 2>().Attr<float>("ceiling")));
XLA_FFI_DEFINE_HANDLER_SYMBOL(proxyless_jax_norm_input_gradient, InputGradient,
                              Signature<8>().Attr<float>("ceiling"));

}  // namespace proxyless_jax
