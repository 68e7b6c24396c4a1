// Vectors of channels, and loops over threads, for the kernels of this folder.
//
// Maps are float32 [b, h, w, c]. A kernel works on a block of kLanes channels
// at a time, which one vector register holds. The last block of a map may have
// fewer.

#ifndef PROXYLESS_JAX_NN_CPU_KERNELS_VECTORS_H_
#define PROXYLESS_JAX_NN_CPU_KERNELS_VECTORS_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

#include "xla/ffi/api/ffi.h"

namespace proxyless_jax {

namespace ffi = xla::ffi;

using Input = ffi::Buffer<ffi::F32>;
using Output = ffi::ResultBuffer<ffi::F32>;

#ifdef __AVX512F__
constexpr int64_t kLanes = 16;
#else
constexpr int64_t kLanes = 8;
#endif

// A map's address need not be a multiple of the vector's size, and others see
// the same memory as single numbers.
typedef float Vec __attribute__((vector_size(kLanes * sizeof(float)),
                                 aligned(4), may_alias));

// Zeros from `begin` up to `end`.
inline void Clear(Vec* begin, Vec* end) {
  for (; begin < end; ++begin) *begin = Vec{};
}

// Sums over `count` rows of n numbers, `row_step` apart; taken in float64.
inline void AddUp(const float* rows, int64_t count, int64_t row_step,
                  int64_t n, float* sums) {
  std::vector<double> total(n);
  for (int64_t row = 0; row < count; ++row, rows += row_step) {
    for (int64_t i = 0; i < n; ++i) total[i] += rows[i];
  }
  std::copy(total.begin(), total.end(), sums);
}

// What XLA passes to a kernel: its threads, so many inputs and outputs. Numbers
// are added by `Attr`.
template <int kInputs, int kOutputs, typename Binding>
auto WithBuffers(Binding&& binding) {
  if constexpr (kInputs > 0) {
    return WithBuffers<kInputs - 1, kOutputs>(
        std::move(binding).template Arg<Input>());
  } else if constexpr (kOutputs > 1) {
    return WithBuffers<0, kOutputs - 1>(
        std::move(binding).template Ret<ffi::Buffer<ffi::F32>>());
  } else {
    return std::move(binding).template Ret<ffi::Buffer<ffi::F32>>();
  }
}

template <int kInputs, int kOutputs = 1>
auto Signature() {
  return WithBuffers<kInputs, kOutputs>(
      ffi::Ffi::Bind().Ctx<ffi::ThreadPool>());
}

inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// A block of channels.
struct Channels {
  int64_t first, lanes;

  // The block-th one of c channels.
  Channels(int64_t block, int64_t c)
      : first(block * kLanes), lanes(std::min(kLanes, c - first)) {}

  // Of a pixel, or of a vector f[c]; zeros in lanes that the block lacks.
  Vec Load(const float* pixel) const {
    const float* from = pixel + first;
    if (lanes == kLanes) return *reinterpret_cast<const Vec*>(from);
#ifdef __AVX512F__
    return (Vec)_mm512_maskz_loadu_ps((1u << lanes) - 1, from);
#else
    Vec v = {};
    for (int64_t l = 0; l < lanes; ++l) v[l] = from[l];
    return v;
#endif
  }

  void Store(float* pixel, Vec v) const {
    float* to = pixel + first;
    if (lanes == kLanes) {
      *reinterpret_cast<Vec*>(to) = v;
      return;
    }
#ifdef __AVX512F__
    _mm512_mask_storeu_ps(to, (1u << lanes) - 1, (__m512)v);
#else
    for (int64_t l = 0; l < lanes; ++l) to[l] = v[l];
#endif
  }
};

// Most blocks of a group. They are side by side in memory: a loop over pixels
// that reads one block of each touches as many pages as one that reads four.
constexpr int64_t kGroup = 4;

// Blocks of channels that follow each other.
struct Group {
  int64_t first, count, c;

  // The index-th one of c channels.
  Group(int64_t index, int64_t c)
      : first(index * kGroup),
        count(std::min(kGroup, CeilDiv(c, kLanes) - first)), c(c) {}

  Channels operator[](int64_t i) const { return Channels(first + i, c); }
};

// Memory of one thread, kept from call to call.
class Scratch {
 public:
  ~Scratch() { std::free(data_); }

  Vec* Get(int64_t count) {
    if (count > count_) {
      std::free(data_);
      const size_t bytes = CeilDiv(count * sizeof(Vec), 64) * 64;
      data_ = static_cast<Vec*>(std::aligned_alloc(64, bytes));
      count_ = data_ == nullptr ? 0 : count;
      if (data_ == nullptr) throw std::bad_alloc();
    }
    return data_;
  }

 private:
  Vec* data_ = nullptr;
  int64_t count_ = 0;
};

// Calls body(i) for i < count, on XLA's threads and the calling one.
//
// The caller takes part and waits only for units that somebody works on, so
// that it never depends on a free thread: it may be one of the pool itself. How
// units are split does not depend on the number of threads, so sums within a
// unit are the same on any number.
template <typename Body>
void ParallelFor(ffi::ThreadPool& pool, int64_t count, Body body) {
  struct State {
    explicit State(Body body) : body(std::move(body)) {}
    Body body;
    std::atomic<int64_t> next{0};
    int64_t done = 0;
    std::mutex mutex;
    std::condition_variable all_done;
  };
  // Shared: a helper may start when all is done and the caller has returned.
  auto state = std::make_shared<State>(std::move(body));
  auto work = [state, count] {
    int64_t own = 0;
    for (int64_t i; (i = state->next.fetch_add(1)) < count; ++own) {
      state->body(i);
    }
    if (own == 0) return;
    std::lock_guard<std::mutex> lock(state->mutex);
    state->done += own;
    if (state->done == count) state->all_done.notify_all();
  };
  const int64_t helpers = std::min(pool.num_threads(), count) - 1;
  for (int64_t i = 0; i < helpers; ++i) pool.Schedule([work] { work(); });
  work();
  std::unique_lock<std::mutex> lock(state->mutex);
  state->all_done.wait(lock, [&] { return state->done == count; });
}

}  // namespace proxyless_jax

#endif  // PROXYLESS_JAX_NN_CPU_KERNELS_VECTORS_H_
