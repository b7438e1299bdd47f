// A token drawn from each of some rows of logits (engine/draws.py says how), by six kernels one after the other. Blocks of
// 1024 threads: where all of a row is read, each has a part of it and the blocks of a column of the grid share a draw.
//
// Weights are integers, exp((logit - highest) / temperature) of 2^45: their sums are exact and so the same in any order.
// What top-k and top-p keep are the tokens from a logit on. Bins say between which two logits it lies; the tokens there,
// most often some hundred, are gathered, and it is found among them bit by bit.

struct Draw {
  int row, top_k;
  double temperature, top_p, min_p, uniform;

  __device__ __forceinline__ bool has_top_k(int V) const { return top_k > 0 && top_k < V; }
  __device__ __forceinline__ bool is_cut(int V) const { return temperature > 0 && (has_top_k(V) || top_p < 1); }
};
constexpr int PART = 4096, MOST_PARTS = 64, BINS = 1024, CANDIDATES = 4096;
constexpr double WEIGHT_OF_HIGHEST = 35184372088832.0;
constexpr double FARTHEST = 32;  // what is farther below the highest weighs nothing

// What one kernel leaves for the next ones.
struct Room {
  u64 bins[BINS];        // what the tokens of a bin weigh, or with top-k how many they are
  u64 best[MOST_PARTS];  // of each part
  u64 sums[MOST_PARTS];  // what the tokens weigh that may be drawn
  u64 above, wanted;     // top-p: what the bins before the last one weigh, and what is kept must
  u32 lowest[MOST_PARTS];
  u32 from;
  int last, count;
  float candidates[CANDIDATES];
};
template <int BYTES>
DEVICE Room& room_of(int* rooms) {
  static_assert(sizeof(Room) == BYTES, "kernels/cuda/choices.py says how large it is");
  return ((Room*)rooms)[blockIdx.x];
}

struct Scan {
  u64 before, all;
};
DEVICE Scan scan_of_block(u64 x) {
  __shared__ u64 parts[WARP];
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  u64 up_to = x;
  for (int step = 1; step < WARP; step *= 2) {
    const u64 other = __shfl_up_sync(ALL, up_to, step);
    if (lane >= step) up_to += other;
  }
  __syncthreads();
  if (lane == WARP - 1) parts[warp] = up_to;
  __syncthreads();
  Scan scan = {up_to - x, 0};
  for (int i = 0; i < WARP; ++i) scan.before += i < warp ? parts[i] : 0, scan.all += parts[i];
  return scan;
}
DEVICE u64 total_of_block(u64 x) {
  return joined_of_block(x, [](u64 a, u64 b) { return a + b; });
}

// Each thread has four tokens of a part; what is behind the row is no number.
DEVICE void read_four(const float* row, int first, int V, float* x) {
  if (first + 4 <= V && (u64)(row + first) % 16 == 0) {
    const float4 four = *(const float4*)(row + first);
    x[0] = four.x, x[1] = four.y, x[2] = four.z, x[3] = four.w;
  } else {
    for (int k = 0; k < 4; ++k) x[k] = first + k < V ? row[first + k] : __int_as_float(0x7fffffff);
  }
}
DEVICE int first_of_four(int part) { return part * PART + 4 * (int)threadIdx.x; }

DEVICE u64 best_of_row(const Room& room, int V) {
  u64 best = 0;
  for (int i = threadIdx.x % WARP; i < (V + PART - 1) / PART; i += WARP) best = max(best, room.best[i]);
  for (int i = 16; i > 0; i /= 2) best = max(best, (u64)__shfl_xor_sync(ALL, best, i));
  return best;
}

struct Row {
  float highest;
  double inverse;  // of the temperature

  __device__ __forceinline__ double distance(float x) const { return ((double)x - (double)highest) * inverse; }
  __device__ __forceinline__ u64 weight(float x) const {
    const double far = distance(x);
    return far >= -FARTHEST ? __double2ull_rn(exp(far) * WEIGHT_OF_HIGHEST) : 0;  // 0 of what is no number
  }
};
DEVICE Row row_of(const Room& room, const Draw& draw, int V) {
  return {logit_of(best_of_row(room, V)), 1 / draw.temperature};
}

// Bins hold neighbouring logits, equally far from first to last; all that weighs nothing is in the last one.
struct Bins {
  float highest, scale;

  __device__ __forceinline__ int operator()(float x) const {
    return (int)fminf((highest - x) * scale, BINS - 1.0f);
  }
};
DEVICE Bins bins_of(const Room& room, const Draw& draw, const Row& row, int V) {
  u32 lowest = ALL;
  for (int i = threadIdx.x % WARP; i < (V + PART - 1) / PART; i += WARP) lowest = min(lowest, room.lowest[i]);
  for (int i = 16; i > 0; i /= 2) lowest = min(lowest, (u32)__shfl_xor_sync(ALL, lowest, i));
  const float far = fminf(row.highest - logit_at(lowest), (float)(FARTHEST * draw.temperature));
  return {row.highest, far > 0 ? (BINS - 1) / far : 0};
}

// The best token of each part and its lowest number above minus infinity; what others add to is 0 from now on.
DEVICE void draw_peaks(const float* logits, const int* draws, Room& room, int V) {
  after_previous();
  const Draw draw = ((const Draw*)draws)[blockIdx.x];
  const int part = blockIdx.y, first = first_of_four(part);
  if (part == 0) room.bins[threadIdx.x] = 0;
  if (part == 0 && threadIdx.x == 0) room.count = 0;
  float x[4];
  read_four(logits + (i64)draw.row * V, first, V, x);
  u64 best = 0;
  u32 lowest = ALL;
  for (int k = 0; k < 4; ++k) {
    best = max(best, first + k < V ? rank_of(x[k], first + k) : 0);
    if (x[k] > -__int_as_float(0x7f800000)) lowest = min(lowest, place_in_order(x[k]));
  }
  best = joined_of_block(best, [](u64 a, u64 b) { return max(a, b); });
  lowest = joined_of_block(lowest, [](u32 a, u32 b) { return min(a, b); });
  if (threadIdx.x == 0) room.best[part] = best, room.lowest[part] = lowest;
}

// What each bin weighs: sums of 16 bits of the weights first, which shared memory adds by itself. With top-k, how many
// tokens it has; the last one's number is not asked for.
DEVICE void draw_bins(const float* logits, const int* draws, Room& room, int V) {
  __shared__ u32 sums[3][BINS];
  after_previous();
  const Draw draw = ((const Draw*)draws)[blockIdx.x];
  if (!draw.is_cut(V)) return;
  const Row row = row_of(room, draw, V);
  const Bins bin = bins_of(room, draw, row, V);
  float x[4];
  read_four(logits + (i64)draw.row * V, first_of_four(blockIdx.y), V, x);
  for (int i = 0; i < 3; ++i) sums[i][threadIdx.x] = 0;
  __syncthreads();
  for (int k = 0; k < 4; ++k) {
    const int to = bin(x[k]);
    if (draw.has_top_k(V)) {
      if (to < BINS - 1) atomicAdd(sums[0] + to, 1u);
    } else if (const u64 weight = row.weight(x[k])) {
      for (int i = 0; i < 3; ++i) atomicAdd(sums[i] + to, (u32)(weight >> 16 * i) & 0xffffu);
    }
  }
  __syncthreads();
  const u64 sum = sums[0][threadIdx.x] + ((u64)sums[1][threadIdx.x] << 16) + ((u64)sums[2][threadIdx.x] << 32);
  if (sum > 0) atomicAdd(room.bins + threadIdx.x, sum);
}

// What is kept of `all` must weigh so much.
DEVICE u64 wanted_of(u64 all, double top_p) { return min(all, max((u64)1, (u64)ceil(top_p * (double)all))); }

// The tokens among which the last one is that is kept: those of one bin, with top-k all from the first one on.
struct Edge {
  Bins bin;
  int last;
  bool has_top_k;

  __device__ __forceinline__ bool has(float x) const {
    const int at = bin(x);
    return x == x && (at == last || (has_top_k && at < last));
  }
};

DEVICE void draw_candidates(const float* logits, const int* draws, Room& room, int V) {
  __shared__ int last, count, start;
  __shared__ u64 above;
  after_previous();
  const Draw draw = ((const Draw*)draws)[blockIdx.x];
  if (!draw.is_cut(V)) return;
  const bool has_top_k = draw.has_top_k(V);
  const u64 own = room.bins[threadIdx.x];
  const Scan bins = scan_of_block(own);
  const u64 wanted = has_top_k ? (u64)draw.top_k : wanted_of(bins.all, draw.top_p);
  if (threadIdx.x == 0) last = BINS - 1, above = 0, count = 0;
  __syncthreads();
  if (bins.before < wanted && wanted <= bins.before + own) last = threadIdx.x, above = has_top_k ? 0 : bins.before;
  __syncthreads();
  const Edge edge = {bins_of(room, draw, row_of(room, draw, V), V), last, has_top_k};
  float x[4];
  int to[4];
  read_four(logits + (i64)draw.row * V, first_of_four(blockIdx.y), V, x);
  for (int k = 0; k < 4; ++k) to[k] = edge.has(x[k]) ? atomicAdd(&count, 1) : CANDIDATES;
  __syncthreads();
  if (threadIdx.x == 0) {
    start = count > 0 ? atomicAdd(&room.count, count) : 0;
    if (blockIdx.y == 0) room.last = last, room.above = above, room.wanted = wanted;
  }
  __syncthreads();
  for (int k = 0; k < 4; ++k)
    if (start + to[k] < CANDIDATES) room.candidates[start + to[k]] = x[k];
}

// Tokens at the edge, or their weights, from a place in the order on.
struct Few {
  u32 places[4];
  u64 weights[4];

  template <class See>
  __device__ __forceinline__ void each(const See& see) const {
#pragma unroll
    for (int k = 0; k < 4; ++k) see(places[k], [&] { return weights[k]; });
  }
};
struct Many {
  const float* logits;
  int V;
  Row row;
  Edge edge;

  template <class See>
  __device__ __forceinline__ void each(const See& see) const {
    for (int first = first_of_four(0); first < V; first += PART) {
      float x[4];
      read_four(logits, first, V, x);
      for (int k = 0; k < 4; ++k)
        if (edge.has(x[k])) see(place_in_order(x[k]), [&] { return row.weight(x[k]); });
    }
  }
};
template <class Tokens>
DEVICE u64 number_from(const Tokens& tokens, u32 from) {
  u64 found = 0;
  tokens.each([&](u32 place, const auto&) { found += place >= from; });
  return total_of_block(found);
}
template <class Tokens>
DEVICE u64 weight_from(const Tokens& tokens, u32 from) {
  u64 found = 0;
  tokens.each([&](u32 place, const auto& weight) {
    if (place >= from) found += weight();
  });
  return total_of_block(found);
}

// The last place from which on there are `top_k` tokens, and from which on there is `top_p` of what these weigh; without
// top-k, from which on there is what the room says, together with what is above. Bits that all places share are theirs.
template <class Tokens>
DEVICE u32 first_kept(const Tokens& tokens, const Draw& draw, const Room& room, int V) {
  u32 lowest = ALL, highest = 0;
  tokens.each([&](u32 place, const auto&) {
    if (place > 0) lowest = min(lowest, place), highest = max(highest, place);
  });
  lowest = joined_of_block(lowest, [](u32 a, u32 b) { return min(a, b); });
  highest = joined_of_block(highest, [](u32 a, u32 b) { return max(a, b); });
  const auto last_where = [&](const auto& is_enough) {
    u32 found = 0;
    for (u32 bit = 0x80000000u; bit > 0; bit /= 2)
      if (bit > (lowest ^ highest) ? (highest & bit) != 0 : is_enough(found | bit)) found |= bit;
    return found;
  };
  u32 kept = 0;
  u64 wanted = room.wanted, above = room.above;
  if (draw.has_top_k(V)) {
    kept = last_where([&](u32 from) { return number_from(tokens, from) >= (u64)draw.top_k; });
    if (draw.top_p >= 1) return kept;
    wanted = wanted_of(weight_from(tokens, kept), draw.top_p), above = 0;
  }
  return max(kept, last_where([&](u32 from) { return above + weight_from(tokens, from) >= wanted; }));
}

// One block has the tokens at the edge, as far as there was room for them, else those of all the row.
DEVICE void draw_edge(const float* logits, const int* draws, Room& room, int V) {
  after_previous();
  const Draw draw = ((const Draw*)draws)[blockIdx.x];
  if (!draw.is_cut(V)) return;
  const Row row = row_of(room, draw, V);
  u32 from;
  if (room.count <= CANDIDATES) {
    Few few;
    for (int k = 0; k < 4; ++k) {
      const int i = threadIdx.x + k * (int)blockDim.x;
      const float x = i < room.count ? room.candidates[i] : 0;
      few.places[k] = i < room.count ? place_in_order(x) : 0, few.weights[k] = i < room.count ? row.weight(x) : 0;
    }
    from = first_kept(few, draw, room, V);
  } else {
    const Edge edge = {bins_of(room, draw, row, V), room.last, draw.has_top_k(V)};
    from = first_kept(Many{logits + (i64)draw.row * V, V, row, edge}, draw, room, V);
  }
  if (threadIdx.x == 0) room.from = from;
}

// Weights of a thread's four tokens: 0 of those that are before `from`, or less likely than min_p wants.
DEVICE u64 read_weights(const float* logits, const Draw& draw, const Room& room, int V, int part, u64* weights) {
  const Row row = row_of(room, draw, V);
  const u32 from = draw.is_cut(V) ? room.from : 0;
  const double lowest = log(draw.min_p);
  float x[4];
  read_four(logits + (i64)draw.row * V, first_of_four(part), V, x);
  u64 sum = 0;
  for (int k = 0; k < 4; ++k) {
    weights[k] = place_in_order(x[k]) >= from && row.distance(x[k]) >= lowest ? row.weight(x[k]) : 0;
    sum += weights[k];
  }
  return sum;
}

DEVICE void draw_sums(const float* logits, const int* draws, Room& room, int V) {
  after_previous();
  const Draw draw = ((const Draw*)draws)[blockIdx.x];
  if (draw.temperature == 0) return;
  u64 weights[4];
  const u64 sum = total_of_block(read_weights(logits, draw, room, V, blockIdx.y, weights));
  if (threadIdx.x == 0) room.sums[blockIdx.y] = sum;
}

// The first token up to which those that may be drawn weigh more than `uniform` of all. One block finds it.
DEVICE void draw_token(const float* logits, const int* draws, const Room& room, int* y, int V) {
  __shared__ int part;
  __shared__ u64 missing;
  after_previous();
  const Draw draw = ((const Draw*)draws)[blockIdx.x];
  if (threadIdx.x < WARP) {
    const int likeliest = place_of(best_of_row(room, V));
    if (threadIdx.x == 0) y[blockIdx.x] = likeliest;  // of a row that is not numbers, too
  }
  if (draw.temperature == 0) return;
  const u64 own = threadIdx.x < (V + PART - 1) / PART ? room.sums[threadIdx.x] : 0;
  const Scan parts = scan_of_block(own);
  if (parts.all == 0) return;
  const u64 wanted = min((u64)(draw.uniform * (double)parts.all), parts.all - 1);
  if (parts.before <= wanted && wanted < parts.before + own) part = threadIdx.x, missing = wanted - parts.before;
  __syncthreads();
  u64 weights[4];
  u64 before = scan_of_block(read_weights(logits, draw, room, V, part, weights)).before;
  for (int k = 0; k < 4; ++k) {
    if (before <= missing && missing < before + weights[k]) y[blockIdx.x] = first_of_four(part) + k;
    before += weights[k];
  }
}
