// A token drawn from each of some rows of logits (engine/draws.py says how). A block of 1024 threads has one draw.
//
// Weights are integers, exp((logit - highest) / temperature) of 2^45: their sums are exact and so the same in any order.
// What top-k and top-p keep are the tokens from a logit on; it is found bit by bit, most often among the likeliest
// few thousand tokens, which are gathered first, else among all.
typedef unsigned long long u64;

struct Draw {
  int row, top_k;
  double temperature, top_p, min_p, uniform;
};
constexpr int CANDIDATES = 7680, BINS = 256, BINS_OF_ONE = 8;
constexpr double WEIGHT_OF_HIGHEST = 35184372088832.0;

// Numbers of which the larger belongs to the larger logit; 0 and -0 are equal.
DEVICE u32 place_in_order(float x) {
  const u32 bits = x == 0 ? 0 : __float_as_uint(x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// Every thread gets the sum.
DEVICE u64 total_of_block(u64 x) {
  __shared__ u64 parts[WARP];
  for (int i = 16; i > 0; i /= 2) x += __shfl_xor_sync(ALL, x, i);
  __syncthreads();
  if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = x;
  __syncthreads();
  x = parts[threadIdx.x % WARP];
  for (int i = 16; i > 0; i /= 2) x += __shfl_xor_sync(ALL, x, i);
  return x;
}

struct Row {
  const float* logits;
  int V;
  float highest;
  double inverse;  // of the temperature

  __device__ __forceinline__ double distance(float x) const { return ((double)x - (double)highest) * inverse; }
  __device__ __forceinline__ u64 weight(float x) const {
    return __double2ull_rn(exp(distance(x)) * WEIGHT_OF_HIGHEST);
  }
  __device__ __forceinline__ int bin(float x) const {
    return (int)fminf((highest - x) * (float)inverse * BINS_OF_ONE, BINS - 1.0f);
  }
};

// Tokens, or their weights, from a place in the order on.
struct Everything {
  Row row;

  __device__ __forceinline__ u64 number(u32 from) const {
    u64 found = 0;
    for (int i = threadIdx.x; i < row.V; i += blockDim.x) found += place_in_order(row.logits[i]) >= from;
    return total_of_block(found);
  }
  __device__ __forceinline__ u64 weight(u32 from) const {
    u64 found = 0;
    for (int i = threadIdx.x; i < row.V; i += blockDim.x)
      if (place_in_order(row.logits[i]) >= from) found += row.weight(row.logits[i]);
    return total_of_block(found);
  }
};

struct Candidates {
  const u32* places;
  const u64* weights;
  int count;

  __device__ __forceinline__ u64 number(u32 from) const {
    u64 found = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) found += places[i] >= from;
    return total_of_block(found);
  }
  __device__ __forceinline__ u64 weight(u32 from) const {
    u64 found = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) found += places[i] >= from ? weights[i] : 0;
    return total_of_block(found);
  }
};

// The last place from which on there are `top_k` tokens, and from which on there is `top_p` of what these weigh, or of
// `all` where there is no top-k.
template <class Tokens>
DEVICE u32 first_kept(const Tokens& tokens, int top_k, double top_p, u64 all) {
  u32 kept = 0;
  if (top_k > 0) {
    for (u32 bit = 0x80000000u; bit > 0; bit /= 2)
      if (tokens.number(kept | bit) >= (u64)top_k) kept |= bit;
    all = tokens.weight(kept);
  }
  if (top_p >= 1) return kept;
  const u64 wanted = min(all, (u64)ceil(top_p * (double)all));
  u32 place = 0;
  for (u32 bit = 0x80000000u; bit > 0; bit /= 2)
    if (tokens.weight(place | bit) >= wanted) place |= bit;
  return max(place, kept);
}

// Gathers the likeliest tokens, as many bins of them as there is room for; returns how many.
DEVICE int gather(const Row& row, u32* places, u64* weights) {
  __shared__ int bins[BINS];
  __shared__ int last, count;
  if (threadIdx.x < BINS) bins[threadIdx.x] = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < row.V; i += blockDim.x) atomicAdd(bins + row.bin(row.logits[i]), 1);
  __syncthreads();
  if (threadIdx.x == 0) {
    last = -1, count = 0;
    for (int all = 0; last + 1 < BINS && (all += bins[last + 1]) <= CANDIDATES;) ++last;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < row.V; i += blockDim.x)
    if (row.bin(row.logits[i]) <= last) {
      const int at = atomicAdd(&count, 1);
      places[at] = place_in_order(row.logits[i]);
      weights[at] = row.weight(row.logits[i]);
    }
  __syncthreads();
  return count;
}

DEVICE u32 first_kept(const Row& row, const Draw& draw, u32* places, u64* weights) {
  const int top_k = draw.top_k < row.V ? draw.top_k : 0;
  if (top_k == 0 && draw.top_p >= 1) return 0;
  const Candidates likeliest = {places, weights, gather(row, places, weights)};
  const u64 all = top_k > 0 ? 0 : Everything{row}.weight(0);
  const bool enough = top_k > 0 ? likeliest.count >= top_k : (double)likeliest.weight(0) >= draw.top_p * (double)all;
  return enough ? first_kept(likeliest, top_k, draw.top_p, all) : first_kept(Everything{row}, top_k, draw.top_p, all);
}

// The first token up to which those from place `from` on, as likely as min_p wants, weigh more than `uniform` of all.
// Each warp has its own stretch of the row.
DEVICE int draw_one(const Row& row, const Draw& draw, u32 from) {
  __shared__ u64 parts[WARP];
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, stretch = (row.V + WARP * WARP - 1) / (WARP * WARP) * WARP;
  const int first = warp * stretch, stop = min(row.V, first + stretch);
  const double lowest = log(draw.min_p);
  auto weight = [&](int i) -> u64 {
    if (i >= stop) return 0;
    const float x = row.logits[i];
    return place_in_order(x) >= from && row.distance(x) >= lowest ? row.weight(x) : 0;
  };
  u64 sum = 0;
  for (int i = first; i < stop; i += WARP) sum += weight(i + lane);
  for (int i = 16; i > 0; i /= 2) sum += __shfl_xor_sync(ALL, sum, i);
  if (lane == 0) parts[warp] = sum;
  __syncthreads();
  u64 all = 0, before = 0;
  for (int i = 0; i < WARP; ++i) all += parts[i], before += i < warp ? parts[i] : 0;
  const u64 wanted = min((u64)(draw.uniform * (double)all), all - 1);
  if (all == 0 || wanted < before || wanted >= before + sum) return -1;
  for (int i = first; i < stop; i += WARP) {
    u64 up_to = weight(i + lane);
    for (int step = 1; step < WARP; step *= 2) {
      const u64 other = __shfl_up_sync(ALL, up_to, step);
      if (lane >= step) up_to += other;
    }
    const u32 behind = __ballot_sync(ALL, before + up_to > wanted);
    if (behind) return i + __ffs(behind) - 1;
    before += __shfl_sync(ALL, up_to, WARP - 1);
  }
  return -1;
}

DEVICE void sample(const float* logits, const int* draws, int* y, int V) {
  extern __shared__ u64 room[];
  after_previous();
  const Draw draw = ((const Draw*)draws)[blockIdx.x];
  const float* row = logits + (i64)draw.row * V;
  const int likeliest = place_of_largest(row, V);
  if (threadIdx.x == 0) y[blockIdx.x] = likeliest;  // of a row that is not numbers, too
  if (draw.temperature == 0) return;
  const Row numbers = {row, V, row[likeliest], 1 / draw.temperature};
  const u32 from = first_kept(numbers, draw, (u32*)(room + CANDIDATES), room);
  const int drawn = draw_one(numbers, draw, from);
  if (drawn >= 0 && threadIdx.x % WARP == 0) y[blockIdx.x] = drawn;
}
