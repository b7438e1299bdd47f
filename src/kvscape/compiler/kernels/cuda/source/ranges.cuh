// What was found in ranges of keys, and how it is joined: in order, within a tile as by `join_ranges`.

// What rows g and g + 8 have found: the weighted sum of D dimensions, the highest score and the sum of weights.
template <int D>
struct Found {
  float out[D / 8][4];
  float peak[2], total[2];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < D / 2; ++i) out[i / 4][i % 4] = 0;
    for (int h = 0; h < 2; ++h) peak[h] = LOWEST, total[h] = 0;
  }
};

DEVICE float joined(float a, float x, float b, float y) { return fmaf(a, x, __fmul_rn(b, y)); }

// The sums of a range, whose weights' sum is still spread over four lanes, join those before it.
template <int D>
DEVICE void join(Found<D>& all, Found<D>& range) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const float peak = fmaxf(all.peak[h], range.peak[h]);
    const float old = exp_2(all.peak[h] - peak), fresh = exp_2(range.peak[h] - peak);
    all.peak[h] = peak;
    all.total[h] = joined(all.total[h], old, range.total[h], fresh);
#pragma unroll
    for (int i = 0; i < D / 8; ++i)
      for (int j = 2 * h; j < 2 * h + 2; ++j) all.out[i][j] = joined(all.out[i][j], old, range.out[i][j], fresh);
  }
}

DEVICE float sum_of_row(float x) {  // over its four lanes
  x += __shfl_xor_sync(ALL, x, 1);
  return x + __shfl_xor_sync(ALL, x, 2);
}
template <int D>
DEVICE void sum_total(Found<D>& found) {
  for (int h = 0; h < 2; ++h) found.total[h] = sum_of_row(found.total[h]);
}

// Tiles pieces[i] to pieces[i + 1] have the ranges of token i. A block has one query head of a token.
template <class V, int D, int SIZE, class Out>
DEVICE void join_ranges(const float* ranges, const int* pieces, Out* y) {
  constexpr int AT_ONCE = D <= 128 ? 64 : 32, EACH = AT_ONCE / WARP;
  __shared__ float2 sums[AT_ONCE][D / 2];
  __shared__ float old[AT_ONCE], fresh[AT_ONCE], totals[AT_ONCE];
  __shared__ float scratch[D];
  const int token = blockIdx.x, head = blockIdx.y, q_heads = gridDim.y, d = threadIdx.x, last = pieces[token + 1];
  const i64 stride = (i64)q_heads * (D + 2);
  float total = 0, out = 0, carried = LOWEST;
  int start = pieces[token];
  after_previous();
  for (; start < last; start += AT_ONCE) {
    const int count = min(AT_ONCE, last - start);
    const float* from = ranges + start * stride + head * (D + 2);
    __syncthreads();
#pragma unroll 8
    for (int i = d; i < count * (D / 2); i += D)
      copy_8_async(shared_address(&sums[i / (D / 2)][i % (D / 2)]), from + i / (D / 2) * stride + i % (D / 2) * 2);
    commit_copies();
    if (d < WARP) {  // what each range's sums and those before them are multiplied by
      float peaks[EACH], peak = LOWEST;
#pragma unroll
      for (int j = 0; j < EACH; ++j) {
        const int r = EACH * d + j;
        peaks[j] = r < count ? from[r * stride + D] : LOWEST;
        totals[r] = r < count ? from[r * stride + D + 1] : 0.0f;
        peak = fmaxf(peak, peaks[j]);
      }
      for (int i = 1; i < WARP; i *= 2) {
        const float other = __shfl_up_sync(ALL, peak, i);
        if (d >= i) peak = fmaxf(peak, other);
      }
      const float before = __shfl_up_sync(ALL, peak, 1), all = __shfl_sync(ALL, peak, WARP - 1);
      float highest = d == 0 ? carried : fmaxf(before, carried);
#pragma unroll
      for (int j = 0; j < EACH; ++j) {
        const float lower = highest;
        highest = fmaxf(lower, peaks[j]);
        old[EACH * d + j] = exp_2(lower - highest), fresh[EACH * d + j] = exp_2(peaks[j] - highest);
      }
      carried = fmaxf(carried, all);
    }
    wait_for_copies<0>();
    __syncthreads();
#pragma unroll 8
    for (int i = 0; i < count; ++i) {
      total = joined(total, old[i], totals[i], fresh[i]);
      out = joined(out, old[i], ((const float*)sums[i])[d], fresh[i]);
    }
  }
  out = __fmul_rn(out, 1.0f / total);
  if constexpr (V::VALUES_TURNED) out = hadamard<D, SIZE>(scratch, out);
  store(y, ((i64)token * q_heads + head) * D + d, out);
}
