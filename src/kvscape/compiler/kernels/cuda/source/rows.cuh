// What is done to rows: norms, gates, gathering. A block of 256 threads has one row.

DEVICE float squared(float4 x) { return fmaf(x.x, x.x, fmaf(x.y, x.y, fmaf(x.z, x.z, x.w * x.w))); }
DEVICE float4 multiplied(float4 x, float factor, float4 w) {
  return make_float4(x.x * factor * w.x, x.y * factor * w.y, x.z * factor * w.z, x.w * factor * w.w);
}

DEVICE float4 added(float4 a, float4 b) { return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w); }

// The norm of x, or of x + residual, which goes to `sum`. What a thread has of a row stays in its registers as far as
// EACH pieces hold it.
template <bool ADDS, class Out>
DEVICE void norm(const float* x, const float* residual, const float* weight, Out* y, float* sum, int K, float eps) {
  constexpr int EACH = 2;
  float4 own[EACH], factors[EACH];
  const i64 first = (i64)blockIdx.x * K;
#pragma unroll
  for (int j = 0; j < EACH; ++j) {
    const int i = 4 * (threadIdx.x + j * blockDim.x);
    if (i < K) factors[j] = *(const float4*)(weight + i);
  }
  after_previous();  // weights are there before
  float squares = 0;
#pragma unroll
  for (int j = 0; j < EACH; ++j) {
    const int i = 4 * (threadIdx.x + j * blockDim.x);
    if (i >= K) continue;
    own[j] = *(const float4*)(x + first + i);
    if (ADDS) own[j] = added(own[j], *(const float4*)(residual + first + i));
    if (ADDS) *(float4*)(sum + first + i) = own[j];
    squares += squared(own[j]);
  }
  for (int i = 4 * (threadIdx.x + EACH * blockDim.x); i < K; i += 4 * blockDim.x) {
    float4 value = *(const float4*)(x + first + i);
    if (ADDS) value = added(value, *(const float4*)(residual + first + i));
    if (ADDS) *(float4*)(sum + first + i) = value;
    squares += squared(value);
  }
  const float factor = rsqrtf(sum_of_block(squares) / K + eps);
#pragma unroll
  for (int j = 0; j < EACH; ++j) {
    const int i = 4 * (threadIdx.x + j * blockDim.x);
    if (i < K) store4(y, first + i, multiplied(own[j], factor, factors[j]));
  }
  const float* from = ADDS ? sum : x;
  for (int i = 4 * (threadIdx.x + EACH * blockDim.x); i < K; i += 4 * blockDim.x)
    store4(y, first + i, multiplied(*(const float4*)(from + first + i), factor, *(const float4*)(weight + i)));
}

template <class Out>
DEVICE void rms_norm(const float* x, const float* weight, Out* y, int K, float eps) {
  norm<false>(x, nullptr, weight, y, nullptr, K, eps);
}

template <class Out>
DEVICE void add_rms_norm(const float* x, const float* residual, const float* weight, Out* y, float* sum, int K, float eps) {
  norm<true>(x, residual, weight, y, sum, K, eps);
}

// One warp for each head of queries and keys; values are copied.
DEVICE void head_norm(const float* qkv, const float* q_weight, const float* k_weight, float* y, int q_heads, int heads,
                      int D, float eps) {
  after_previous();
  const int width = q_heads + 2 * heads;
  for (int h = threadIdx.x / WARP; h < width; h += blockDim.x / WARP) {
    const i64 first = ((i64)blockIdx.x * width + h) * D;
    const float* weight = h < q_heads ? q_weight : k_weight;
    float squares = 0;
    for (int d = threadIdx.x % WARP; d < D; d += WARP) squares = fmaf(qkv[first + d], qkv[first + d], squares);
    const float factor = rsqrtf(sum_of_warp(squares) / D + eps);
    for (int d = threadIdx.x % WARP; d < D; d += WARP)
      y[first + d] = h < q_heads + heads ? qkv[first + d] * factor * weight[d] : qkv[first + d];
  }
}

struct Silu {
  static __device__ __forceinline__ float of(float x) { return x / (1.0f + exp_2(-1.4426950408889634f * x)); }
};
struct Gelu {
  static __device__ __forceinline__ float of(float x) {
    return 0.5f * x * (1.0f + hyperbolic_tangent(0.7978845608028654f * (x + 0.044715f * x * x * x)));
  }
};

template <class Gate, class Out>
DEVICE void gated(const float* x, Out* y, i64 total, int K) {
  after_previous();
  const i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= total) return;
  const float* row = x + i / K * 2 * K;
  store(y, i, Gate::of(row[i % K]) * row[K + i % K]);
}

DEVICE void add_bias(const float* x, const float* bias, float* y, i64 total, int K) {
  after_previous();
  const i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < total) y[i] = x[i] + bias[i % K];
}

DEVICE void scale(const float* x, float* y, i64 total, float factor) {
  after_previous();
  const i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < total) y[i] = x[i] * factor;
}

DEVICE void soft_cap(const float* x, float* y, i64 total, float cap) {
  after_previous();
  const i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < total) y[i] = cap * hyperbolic_tangent(x[i] / cap);
}

DEVICE void take_rows(const float* x, const int* rows, float* y, int K) {
  after_previous();
  for (int i = threadIdx.x; i < K; i += blockDim.x) y[(i64)blockIdx.x * K + i] = x[(i64)rows[blockIdx.x] * K + i];
}

template <class F>
DEVICE void embedding(const uint4* codes, const u32* scales, const int* ids, float* y, int K) {
  after_previous();
  const int row = ids[blockIdx.x], chunks = (K + 4 * F::GROUP - 1) / (4 * F::GROUP), half = row / 8 % 2;
  for (int i = threadIdx.x; i < K / 2; i += blockDim.x) {
    const int group = 2 * i / F::GROUP, pair = i % (F::GROUP / 2), lane = row % 8 * 4 + group % 4;
    const i64 block = (i64)(row / 16) * chunks + group / 4;
    const int load = pair / (4 * F::PAIRS), word = pair / F::PAIRS % 4;
    const u32 code = F::codes(((const u32*)codes)[(((block * F::LOADS + load) * 2 + half) * WARP + lane) * 4 + word],
                              pair % F::PAIRS);
    float low = float_of(code & 0xffff), high = float_of(code >> 16);
    if (F::SCALED) {
      const u16* constants = (const u16*)scales + block * (1 + F::MINIMUM) * 2 * WARP;
      const float s = float_of(constants[lane * 2 + half]);
      const float m = F::MINIMUM ? float_of(constants[2 * WARP + lane * 2 + half]) : 0.0f;
      low = fmaf(low, s, m), high = fmaf(high, s, m);
    }
    y[(i64)blockIdx.x * K + 2 * i] = low, y[(i64)blockIdx.x * K + 2 * i + 1] = high;
  }
}
