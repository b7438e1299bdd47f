// What is asked of logits. A block of 1024 threads has one row.
typedef unsigned long long u64;

// Numbers of which the larger belongs to the larger logit; 0 and -0 are equal, and what is no number comes last.
DEVICE u32 place_in_order(float x) {
  const u32 bits = x == 0 ? 0 : __float_as_uint(x);
  return x != x ? 0 : bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
DEVICE float logit_at(u32 place) { return __uint_as_float(place & 0x80000000u ? place ^ 0x80000000u : ~place); }

// The larger logit has the larger number, of equals the first. 0 is less than all.
DEVICE u64 rank_of(float x, int place) { return (u64)place_in_order(x) << 32 | (u32)~place; }
DEVICE int place_of(u64 rank) { return (int)~(u32)rank; }
DEVICE float logit_of(u64 rank) { return logit_at((u32)(rank >> 32)); }

// What all threads of a block have, joined in an order of its own; every thread gets it.
template <class T, class Join>
DEVICE T joined_of_block(T x, const Join& join) {
  __shared__ T parts[WARP];
  for (int i = 16; i > 0; i /= 2) x = join(x, __shfl_xor_sync(ALL, x, i));
  __syncthreads();
  if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = x;
  __syncthreads();
  x = parts[threadIdx.x % WARP];
  for (int i = 16; i > 0; i /= 2) x = join(x, __shfl_xor_sync(ALL, x, i));
  return x;
}

// What a block's threads see of a row: fours of neighbours first, as far as they may be loaded at once, then single tokens.
struct Shares {
  int V, fours;

  __device__ __forceinline__ int owner(int i) const { return (i < 4 * fours ? i / 4 : i - 4 * fours) % (int)blockDim.x; }
  // The n-th of an owner's fours, token by token, and its n-th single token; what is behind its last ones is V or more.
  __device__ __forceinline__ int of_fours(int owner, int n) const {
    const int four = n / 4 * (int)blockDim.x + owner;
    return four < fours ? 4 * four + n % 4 : V;
  }
  __device__ __forceinline__ int single(int owner, int n) const { return 4 * fours + n * (int)blockDim.x + owner; }
};
DEVICE Shares shares_of(const float* row, int V) { return {V, (u64)row % 16 ? 0 : V / 4}; }

// A block is alone with its row: eight large loads of each thread are under way at once.
template <class See>
DEVICE void each_of_row(const float* row, const Shares& shares, const See& see) {
  const int step = blockDim.x, fours = shares.fours;
  for (int first = threadIdx.x; first < fours; first += 8 * step) {
    float4 x[8];
#pragma unroll
    for (int k = 0; k < 8; ++k) x[k] = ((const float4*)row)[min(first + k * step, fours - 1)];
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const int i = 4 * (first + k * step);
      if (i < 4 * fours) see(x[k].x, i), see(x[k].y, i + 1), see(x[k].z, i + 2), see(x[k].w, i + 3);
    }
  }
  for (int i = 4 * fours + threadIdx.x; i < shares.V; i += step) see(row[i], i);
}

DEVICE bool is_better(float a, int place_a, float b, int place_b) { return a > b || (a == b && place_a < place_b); }

// Every thread gets the first of the largest; of a row that is not numbers, the first.
DEVICE int place_of_largest(const float* row, int V) {
  __shared__ float peaks[WARP];
  __shared__ int places[WARP];
  float peak = -__int_as_float(0x7f800000);
  int place = 0x7fffffff;
  each_of_row(row, shares_of(row, V), [&](float x, int i) {
    if (is_better(x, i, peak, place)) peak = x, place = i;
  });
  for (int level = 0; level < 2; ++level) {
    for (int i = 16; i > 0; i /= 2) {
      const float other = __shfl_xor_sync(ALL, peak, i);
      const int at = __shfl_xor_sync(ALL, place, i);
      if (is_better(other, at, peak, place)) peak = other, place = at;
    }
    if (level == 1) break;
    if (threadIdx.x % WARP == 0) peaks[threadIdx.x / WARP] = peak, places[threadIdx.x / WARP] = place;
    __syncthreads();
    peak = peaks[threadIdx.x % WARP], place = places[threadIdx.x % WARP];
  }
  return place == 0x7fffffff ? 0 : place;
}

DEVICE void greedy(const float* logits, int* y, int V) {
  after_previous();
  const int place = place_of_largest(logits + (i64)blockIdx.x * V, V);
  if (threadIdx.x == 0) y[blockIdx.x] = place;
}

DEVICE void logprobs(const float* logits, const int* ids, float* y, int V) {
  after_previous();
  __shared__ float parts[WARP];
  const float* row = logits + (i64)blockIdx.x * V;
  float peak = row[0];
  for (int i = threadIdx.x; i < V; i += blockDim.x) peak = fmaxf(peak, row[i]);
  for (int i = 16; i > 0; i /= 2) peak = fmaxf(peak, __shfl_xor_sync(ALL, peak, i));
  if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = peak;
  __syncthreads();
  for (int i = 0; i < WARP; ++i) peak = fmaxf(peak, parts[i]);
  __syncthreads();
  float sum = 0;
  for (int i = threadIdx.x; i < V; i += blockDim.x) sum += expf(row[i] - peak);
  sum = sum_of_warp(sum);
  if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = sum;
  __syncthreads();
  sum = 0;
  for (int i = 0; i < WARP; ++i) sum += parts[i];
  if (threadIdx.x == 0) y[blockIdx.x] = row[ids[blockIdx.x]] - peak - logf(sum);
}
