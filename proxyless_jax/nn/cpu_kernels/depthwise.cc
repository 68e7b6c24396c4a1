// Depthwise convolution and its two gradients: see ../layers/depthwise.py.
//
// A unit of work is a band of rows of one image, of a few blocks of channels.
// What it reads is first packed into arrays [rows][columns] of vectors, one for
// each block, with zeros around it, so that the loops over taps have no borders
// and stay in cache.
//
// A batch norm in front can be part of packing: the normalised map is then
// nowhere in memory.

#include <vector>

#include "norm.h"
#include "vectors.h"

namespace proxyless_jax {
namespace {

// Most bytes of a packed band of more than 8 rows: it should stay in a core's
// second-level cache.
constexpr int64_t kBandBytes = 512 << 10;
// Most outputs of a row that are computed together: each has a register.
constexpr int64_t kTile = 12;
// Most parts of the batch whose kernel gradients are summed one by one.
constexpr int64_t kParts = 16;

thread_local Scratch packed_scratch, row_scratch, taps_scratch;

struct Map {
  const float* data;
  int64_t h, w, c;
};

// What packing does to each vector: nothing, or a batch norm.
struct Unchanged {
  Vec Output(Vec x) const { return x; }
};

// For a kernel: what packing does to a block of channels.
struct AsIs {
  Unchanged operator()(Channels) const { return {}; }
};
struct Normed {
  Norm norm;
  Block operator()(Channels channels) const { return Block(norm, channels); }
};

// out[blocks][rows][columns] = a group's channels from pixel (row, column) on,
// which may lie outside of the map: there are zeros.
template <typename ChangeOf>
void Pack(const Map& map, const Group& group, ChangeOf change_of, int64_t row,
          int64_t rows, int64_t column, int64_t columns, Vec* out) {
  const int64_t left = std::clamp<int64_t>(-column, 0, columns);
  const int64_t right = std::clamp<int64_t>(map.w - column, left, columns);
  for (int64_t r = row; r < row + rows; ++r, out += columns) {
    const bool inside = 0 <= r && r < map.h;
    const int64_t from = inside ? left : columns, to = inside ? right : columns;
    for (int64_t block = 0; block < group.count; ++block) {
      Vec* own = out + block * rows * columns;
      const Channels channels = group[block];
      const auto change = change_of(channels);
      Clear(own, own + from);
      const float* pixel = map.data + (r * map.w + column + from) * map.c;
      for (int64_t i = from; i < to; ++i, pixel += map.c) {
        own[i] = change.Output(channels.Load(pixel));
      }
      Clear(own + to, own + columns);
    }
  }
}

// Rows of taps over a packed array.
struct Taps {
  const Vec* values;  // [rows][columns]
  int64_t rows, columns;
};

// `out_step` numbers apart, T sums over taps; they read `step` columns apart.
template <int T>
void SumTile(const Vec* from, int64_t pitch, int64_t step, const Taps& taps,
             float* out, int64_t out_step, Channels channels) {
  Vec sums[T] = {};
  const Vec* tap = taps.values;
  for (int64_t i = 0; i < taps.rows; ++i, from += pitch) {
    for (int64_t j = 0; j < taps.columns; ++j, ++tap) {
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) sums[t] += from[t * step + j] * *tap;
    }
  }
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) channels.Store(out + t * out_step, sums[t]);
}

// A row of `count` such sums.
void SumRow(const Vec* from, int64_t pitch, int64_t step, const Taps& taps,
            int64_t count, float* out, int64_t out_step, Channels channels) {
  using Tile = void (*)(const Vec*, int64_t, int64_t, const Taps&, float*,
                        int64_t, Channels);
  static constexpr Tile kTiles[kTile + 1] = {
      nullptr,    SumTile<1>, SumTile<2>,  SumTile<3>,  SumTile<4>,
      SumTile<5>, SumTile<6>, SumTile<7>,  SumTile<8>,  SumTile<9>,
      SumTile<10>, SumTile<11>, SumTile<12>};
  for (int64_t tiles = CeilDiv(count, kTile); tiles > 0; --tiles) {
    const int64_t t = count / tiles;
    kTiles[t](from, pitch, step, taps, out, out_step, channels);
    from += t * step;
    out += t * out_step;
    count -= t;
  }
}

// Sizes of a convolution f[b, h, w, c] -> f[b, rows, columns, c].
struct Sizes {
  int64_t b, h, w, c, k, stride, pad, rows, columns, groups;

  Sizes(ffi::AnyBuffer::Dimensions x, ffi::AnyBuffer::Dimensions kernel,
        int64_t stride)
      : b(x[0]), h(x[1]), w(x[2]), c(x[3]), k(kernel[0]), stride(stride),
        pad(k / 2), rows(CeilDiv(h, stride)), columns(CeilDiv(w, stride)),
        groups(CeilDiv(c, kGroup * kLanes)) {}

  // Columns that the windows of a row of the output read.
  int64_t window_columns() const { return stride * (columns - 1) + k; }
};

// Whether a kernel is f[k, k, 1, c], k odd.
bool Fits(ffi::AnyBuffer::Dimensions kernel, int64_t c) {
  return kernel.size() == 4 && kernel[0] == kernel[1] && kernel[0] % 2 == 1 &&
         kernel[2] == 1 && kernel[3] == c;
}

ffi::Error WrongKernel() {
  return ffi::Error::InvalidArgument(
      "kernel: expected f32[k, k, 1, c], k odd, c as the map has");
}

// Of `rows` rows, how many a band has, if each needs so many packed vectors.
int64_t BandRows(int64_t rows, int64_t vectors) {
  const int64_t band_vectors = kBandBytes / (kGroup * int64_t{sizeof(Vec)});
  const int64_t most = std::max<int64_t>(8, band_vectors / vectors);
  return CeilDiv(rows, CeilDiv(rows, most));
}

template <typename ChangeOf>
ffi::Error Convolve(ffi::ThreadPool& pool, Input x, ChangeOf change_of,
                    Input kernel, Output y, int64_t stride) {
  if (!Fits(kernel.dimensions(), x.dimensions()[3])) return WrongKernel();
  const Sizes s(x.dimensions(), kernel.dimensions(), stride);
  const float *from = x.typed_data(), *weights = kernel.typed_data();
  float* to = y->typed_data();
  const int64_t pitch = s.window_columns();
  const int64_t high = BandRows(s.rows, stride * pitch);
  const int64_t bands = CeilDiv(s.rows, high);
  ParallelFor(pool, s.b * s.groups * bands, [=](int64_t unit) {
    const Group group(unit / bands % s.groups, s.c);
    const int64_t image = unit / bands / s.groups;
    const int64_t begin = unit % bands * high;
    const int64_t end = std::min(s.rows, begin + high);
    Vec* taps = taps_scratch.Get(group.count * s.k * s.k);
    for (int64_t block = 0; block < group.count; ++block) {
      for (int64_t t = 0; t < s.k * s.k; ++t) {
        taps[block * s.k * s.k + t] = group[block].Load(weights + t * s.c);
      }
    }
    const int64_t reach = stride * (end - begin - 1) + s.k;
    Vec* packed = packed_scratch.Get(group.count * reach * pitch);
    const Map map{from + image * s.h * s.w * s.c, s.h, s.w, s.c};
    Pack(map, group, change_of, stride * begin - s.pad, reach, -s.pad, pitch,
         packed);
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t block = 0; block < group.count; ++block) {
        const Vec* own = packed + block * reach * pitch;
        SumRow(own + stride * (row - begin) * pitch, pitch, stride,
               {taps + block * s.k * s.k, s.k, s.k}, s.columns,
               to + (image * s.rows + row) * s.columns * s.c, s.c,
               group[block]);
      }
    }
  });
  return ffi::Error::Success();
}

// How many taps reach an input pixel of a phase, along one axis: those with
// i % stride == phase.
int64_t PhaseTaps(int64_t phase, int64_t k, int64_t stride) {
  return phase < k ? (k - 1 - phase) / stride + 1 : 0;
}

// The taps of each block and pair of phases, turned around: [blocks][s][s].
std::vector<Taps> PhasesOf(const float* weights, const Group& group, int64_t k,
                           int64_t stride) {
  std::vector<Taps> phases;
  Vec* taps = taps_scratch.Get(group.count * k * k);
  for (int64_t block = 0; block < group.count; ++block) {
    for (int64_t i = 0; i < stride; ++i) {
      for (int64_t j = 0; j < stride; ++j) {
        const int64_t rows = PhaseTaps(i, k, stride);
        const int64_t columns = PhaseTaps(j, k, stride);
        phases.push_back({taps, rows, columns});
        for (int64_t m = rows - 1; m >= 0; --m) {
          for (int64_t n = columns - 1; n >= 0; --n) {
            const int64_t tap = (i + m * stride) * k + j + n * stride;
            *taps++ = group[block].Load(weights + tap * group.c);
          }
        }
      }
    }
  }
  return phases;
}

// x's row y is read by tap i of the output's row (y + pad - i) / stride: the
// taps of y's phase, (y + pad) % stride, each by one row further up.
ffi::Error InputGradient(ffi::ThreadPool pool, Input kernel, Input dy,
                         Output dx, int64_t stride) {
  if (!Fits(kernel.dimensions(), dx->dimensions()[3])) return WrongKernel();
  const Sizes s(dx->dimensions(), kernel.dimensions(), stride);
  const float *from = dy.typed_data(), *weights = kernel.typed_data();
  float* to = dx->typed_data();
  // Rows of dy above that of tap `phase` which the other taps see, at most.
  const int64_t above = (s.k - 1) / stride;
  const int64_t left = s.pad / stride - above;
  const int64_t pitch = (s.w - 1 + s.pad) / stride - left + 1;
  const int64_t high = BandRows(s.h, CeilDiv(pitch, stride));
  const int64_t bands = CeilDiv(s.h, high);
  ParallelFor(pool, s.b * s.groups * bands, [=](int64_t unit) {
    const Group group(unit / bands % s.groups, s.c);
    const int64_t image = unit / bands / s.groups;
    const int64_t begin = unit % bands * high;
    const int64_t end = std::min(s.h, begin + high);
    const std::vector<Taps> phases = PhasesOf(weights, group, s.k, stride);
    const int64_t top = (begin + s.pad) / stride - above;
    const int64_t reach = (end - 1 + s.pad) / stride - top + 1;
    Vec* packed = packed_scratch.Get(group.count * reach * pitch);
    const Map map{from + image * s.rows * s.columns * s.c, s.rows, s.columns,
                  s.c};
    Pack(map, group, AsIs(), top, reach, left, pitch, packed);
    for (int64_t y = begin; y < end; ++y) {
      for (int64_t x = 0; x < std::min(stride, s.w); ++x) {
        const int64_t i = (y + s.pad) % stride, j = (x + s.pad) % stride;
        for (int64_t block = 0; block < group.count; ++block) {
          const Taps& own = phases[(block * stride + i) * stride + j];
          const int64_t row = (y + s.pad) / stride - (own.rows - 1) - top;
          const int64_t column =
              (x + s.pad) / stride - (own.columns - 1) - left;
          SumRow(packed + (block * reach + row) * pitch + column, pitch, 1, own,
                 CeilDiv(s.w - x, stride),
                 to + ((image * s.h + y) * s.w + x) * s.c, stride * s.c,
                 group[block]);
        }
      }
    }
  });
  return ffi::Error::Success();
}

// Adds dy's row times what R x C taps of its windows read to their sums.
template <int R, int C>
void AddProducts(const Vec* from, int64_t pitch, int64_t step, const Vec* dy,
                 int64_t count, Vec* sums, int64_t k) {
  Vec own[R][C];
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < C; ++j) own[i][j] = sums[i * k + j];
  }
  for (int64_t x = 0; x < count; ++x, from += step) {
    const Vec gradient = dy[x];
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
#pragma GCC unroll 8
      for (int j = 0; j < C; ++j) own[i][j] += from[i * pitch + j] * gradient;
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < C; ++j) sums[i * k + j] = own[i][j];
  }
}

// All taps: as many together as there are registers for.
void AddAllProducts(const Vec* from, int64_t pitch, int64_t step,
                    const Vec* dy, int64_t count, Vec* sums, int64_t k) {
  switch (k) {
    case 3:
      AddProducts<3, 3>(from, pitch, step, dy, count, sums, k);
      return;
    case 5:
      AddProducts<5, 5>(from, pitch, step, dy, count, sums, k);
      return;
    case 7:
      AddProducts<4, 7>(from, pitch, step, dy, count, sums, k);
      AddProducts<3, 7>(from + 4 * pitch, pitch, step, dy, count, sums + 4 * k,
                        k);
      return;
  }
  for (int64_t i = 0; i < k; ++i) {
    for (int64_t j = 0; j < k; ++j) {
      AddProducts<1, 1>(from + i * pitch + j, pitch, step, dy, count,
                        sums + i * k + j, k);
    }
  }
}

template <typename ChangeOf>
ffi::Error Correlate(ffi::ThreadPool& pool, Input x, ChangeOf change_of,
                     Input dy, Output dkernel, int64_t stride) {
  if (!Fits(dkernel->dimensions(), x.dimensions()[3])) return WrongKernel();
  const Sizes s(x.dimensions(), dkernel->dimensions(), stride);
  const float *from = x.typed_data(), *gradient = dy.typed_data();
  float* to = dkernel->typed_data();
  const int64_t pitch = s.window_columns();
  const int64_t high = BandRows(s.rows, stride * pitch);
  const int64_t parts = std::min(s.b, kParts), taps = s.k * s.k;
  std::vector<float> all_sums(parts * taps * s.c);
  float* part_sums = all_sums.data();  // [parts][taps][c]
  ParallelFor(pool, s.groups * parts, [=](int64_t unit) {
    const Group group(unit / parts, s.c);
    const int64_t part = unit % parts;
    Vec* sums = taps_scratch.Get(group.count * taps);
    Clear(sums, sums + group.count * taps);
    Vec* dy_row = row_scratch.Get(group.count * s.columns);
    const int64_t last_image = (part + 1) * s.b / parts;
    for (int64_t image = part * s.b / parts; image < last_image; ++image) {
      const Map x_map{from + image * s.h * s.w * s.c, s.h, s.w, s.c};
      const Map dy_map{gradient + image * s.rows * s.columns * s.c, s.rows,
                       s.columns, s.c};
      for (int64_t begin = 0; begin < s.rows; begin += high) {
        const int64_t end = std::min(s.rows, begin + high);
        const int64_t reach = stride * (end - begin - 1) + s.k;
        Vec* packed = packed_scratch.Get(group.count * reach * pitch);
        Pack(x_map, group, change_of, stride * begin - s.pad, reach, -s.pad,
             pitch, packed);
        for (int64_t row = begin; row < end; ++row) {
          Pack(dy_map, group, AsIs(), row, 1, 0, s.columns, dy_row);
          for (int64_t block = 0; block < group.count; ++block) {
            const int64_t above = block * reach + stride * (row - begin);
            AddAllProducts(packed + above * pitch, pitch, stride,
                           dy_row + block * s.columns, s.columns,
                           sums + block * taps, s.k);
          }
        }
      }
    }
    for (int64_t block = 0; block < group.count; ++block) {
      for (int64_t t = 0; t < taps; ++t) {
        group[block].Store(part_sums + (part * taps + t) * s.c,
                           sums[block * taps + t]);
      }
    }
  });
  AddUp(part_sums, parts, taps * s.c, taps * s.c, to);
  return ffi::Error::Success();
}

ffi::Error Forward(ffi::ThreadPool pool, Input x, Input kernel, Output y,
                   int64_t stride) {
  return Convolve(pool, x, AsIs(), kernel, y, stride);
}

ffi::Error KernelGradient(ffi::ThreadPool pool, Input x, Input dy,
                          Output dkernel, int64_t stride) {
  return Correlate(pool, x, AsIs(), dy, dkernel, stride);
}

ffi::Error NormForward(ffi::ThreadPool pool, Input x, Input mean, Input rstd,
                       Input scale, Input bias, Input kernel, Output y,
                       float ceiling, int64_t stride) {
  const Normed normed{Norm(mean, rstd, scale, bias, ceiling)};
  return Convolve(pool, x, normed, kernel, y, stride);
}

ffi::Error NormKernelGradient(ffi::ThreadPool pool, Input x, Input mean,
                              Input rstd, Input scale, Input bias, Input dy,
                              Output dkernel, float ceiling, int64_t stride) {
  const Normed normed{Norm(mean, rstd, scale, bias, ceiling)};
  return Correlate(pool, x, normed, dy, dkernel, stride);
}

auto OfDepthwise() { return Signature<2>().Attr<int64_t>("stride"); }

auto OfNormDepthwise() {
  return Signature<6>().Attr<float>("ceiling").Attr<int64_t>("stride");
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(proxyless_jax_depthwise, Forward, OfDepthwise());
XLA_FFI_DEFINE_HANDLER_SYMBOL(proxyless_jax_depthwise_input_gradient,
                              InputGradient, OfDepthwise());
XLA_FFI_DEFINE_HANDLER_SYMBOL(proxyless_jax_depthwise_kernel_gradient,
                              KernelGradient, OfDepthwise());
XLA_FFI_DEFINE_HANDLER_SYMBOL(proxyless_jax_norm_depthwise, NormForward,
                              OfNormDepthwise());
XLA_FFI_DEFINE_HANDLER_SYMBOL(proxyless_jax_norm_depthwise_kernel_gradient,
                              NormKernelGradient, OfNormDepthwise());

}  // namespace proxyless_jax
