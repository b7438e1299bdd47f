// Paged causal attention by tensor cores, with an online softmax (FlashAttention, arXiv 2205.14135).
//
// A block has a tile (tokens of one sequence) and one key head; its rows are the tokens' query heads that share the key
// head, 16 for each warp. Keys are taken in spans, and the sums of each range of RANGE_TOKENS keys are joined in order,
// within a tile that has all its ranges as by `join_ranges`, which joins those of tiles that have one each: a query's
// numbers depend on neither tile nor batch. kernels/cpu/attention.py says what windows and sinks are.

constexpr int RANGE_TOKENS = 64, WARPS = 4;
constexpr float LOWEST = -1.0e30f, LOG2_E = 1.4426950408889634f;

struct Tile {
  int sequence, first, tokens, own, range;
};

// What the queries of a step see, and how their scores are made.
struct Scores {
  const int* positions;
  int sinks, recent;
  float scale, soft_cap;

  // Of keys that are rounded in groups a query sees those of its own group as they were, the others as they are kept.
  template <bool GROUPED>
  __device__ __forceinline__ bool visible(int key, int position, bool own) const {
    const bool is_own = key / GROUP_TOKENS == position / GROUP_TOKENS;
    return key <= position && (key < sinks || key > position - recent) && (!GROUPED || is_own == own);
  }
  // In powers of two.
  __device__ __forceinline__ float of(float product) const {
    const float score = product * scale;
    return (soft_cap > 0 ? soft_cap * hyperbolic_tangent(score / soft_cap) : score) * LOG2_E;
  }
};

template <int D>
struct Span {
  static constexpr int KEYS = D <= 128 ? 64 : 32, PIECES = D / 8;
  // In 16 bytes: rows whose pieces a warp reads together begin in different banks.
  static constexpr int KEY_STRIDE = PIECES + (PIECES % 8 == 0 ? 4 : 0), VALUE_STRIDE = PIECES + 1;
  uint4 keys[KEYS * KEY_STRIDE];
  uint4 values[KEYS * VALUE_STRIDE];

  template <class K, class V>
  __device__ __forceinline__ void load(const Pages<K, V>& pages, int head, int first, int keys_there) {
#pragma unroll 8
    for (int i = threadIdx.x; i < KEYS * PIECES; i += blockDim.x) {
      const int r = i / PIECES, c = i % PIECES, token = first + r;
      const bool there = token < keys_there;
      // What lies in the page may be what is multiplied: then all copies are under way at once.
      const u8* page = pages.page(there ? token : 0);
      const int at = there ? token % pages.page_size : 0;
      uint4 *key = keys + r * KEY_STRIDE + c, *value = values + r * VALUE_STRIDE + c;
      if constexpr (K::PLAIN) copy_async(shared_address(key), page + pages.key(head, at) + 16 * c, there);
      else *key = there ? pages.read_key(head, token, c) : make_uint4(0, 0, 0, 0);
      if constexpr (V::PLAIN) copy_async(shared_address(value), page + pages.value(head, at) + 16 * c, there);
      else *value = there ? pages.read_value(head, token, c) : make_uint4(0, 0, 0, 0);
    }
    commit_copies();
    wait_for_copies<0>();
  }
  // The keys from group `from` on as they were; `own` has the sequence's group 0, were it there.
  __device__ __forceinline__ void load_own_keys(const float* own, int heads, int head, int first, int keys_there, int from) {
    for (int i = threadIdx.x; i < KEYS * PIECES; i += blockDim.x) {
      const int r = i / PIECES, c = i % PIECES, token = first + r, group = token / GROUP_TOKENS;
      const float* row = own + (((i64)group * heads + head) * GROUP_TOKENS + token % GROUP_TOKENS) * D;
      const bool there = token < keys_there && group >= from;
      keys[r * KEY_STRIDE + c] = there ? halves_of((const float4*)row + 2 * c) : make_uint4(0, 0, 0, 0);
    }
  }
};

// Two rows of queries, g and g + 8 of a warp's, as the left operand: lane t has the pieces 4 i + t of 8 dimensions.
template <int D>
struct Queries {
  u32 pieces[D / 32][2][4];

  __device__ __forceinline__ void load(const float* low, const float* high) {
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < D / 32; ++i)
      for (int h = 0; h < 2; ++h) {
        const float4* from = (const float4*)((h ? high : low) + (4 * i + t) * 8);
        const float4 a = from[0], b = from[1];
        pieces[i][h][0] = halves(a.x, a.y), pieces[i][h][1] = halves(a.z, a.w);
        pieces[i][h][2] = halves(b.x, b.y), pieces[i][h][3] = halves(b.z, b.w);
      }
  }
  __device__ __forceinline__ void multiply(const Span<D>& span, int tile, float* products) const {
    const int g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < D / 32; ++i) {
      const uint4 key = span.keys[(tile * 8 + g) * Span<D>::KEY_STRIDE + 4 * i + t];
      const u32 a[4] = {pieces[i][0][0], pieces[i][1][0], pieces[i][0][1], pieces[i][1][1]};
      const u32 b[4] = {pieces[i][0][2], pieces[i][1][2], pieces[i][0][3], pieces[i][1][3]};
      multiply_add(products, a, key.x, key.y);
      multiply_add(products, b, key.z, key.w);
    }
  }
};

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

// Values of 16 keys by 16 dimensions as the right operand of two products.
template <int D>
DEVICE void load_values(const Span<D>& span, int block, int piece, u32* v) {
  const int lane = threadIdx.x % WARP, row = block * 16 + lane / 8 % 2 * 8 + lane % 8;
  const u32 from = shared_address(span.values + row * Span<D>::VALUE_STRIDE + piece + lane / 16);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
               : "r"(from));
}

// Of the values a warp takes the dimensions of its part, OWN of them; scores are made for all.
template <bool GROUPED, int D, int OWN>
DEVICE void attend(const Span<D>& span, const Queries<D>& q, const float* const* sink_q, const Scores& how, int first,
                   const int* position, int part, bool own, Found<OWN>& found) {
  constexpr int TILES = Span<D>::KEYS / 8;
  const int t = threadIdx.x % 4;
  float s[TILES][4] = {};
#pragma unroll
  for (int i = 0; i < TILES; ++i) q.multiply(span, i, s[i]);
  if (first < how.sinks) {
    Queries<D> other;
    other.load(sink_q[0], sink_q[1]);
#pragma unroll
    for (int i = 0; i < TILES; ++i) {
      float sink_s[4] = {};
      other.multiply(span, i, sink_s);
      for (int j = 0; j < 4; ++j)
        if (first + i * 8 + 2 * t + j % 2 < how.sinks) s[i][j] = sink_s[j];
    }
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float peak = found.peak[h];
#pragma unroll
    for (int i = 0; i < TILES; ++i)
      for (int j = 2 * h; j < 2 * h + 2; ++j) {
        s[i][j] = how.visible<GROUPED>(first + i * 8 + 2 * t + j % 2, position[h], own) ? how.of(s[i][j]) : LOWEST;
        peak = fmaxf(peak, s[i][j]);
      }
    peak = fmaxf(peak, __shfl_xor_sync(ALL, peak, 1));
    peak = fmaxf(peak, __shfl_xor_sync(ALL, peak, 2));
    const float old = exp_2(found.peak[h] - peak);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < TILES; ++i)
      for (int j = 2 * h; j < 2 * h + 2; ++j) {
        s[i][j] = s[i][j] == LOWEST ? 0.0f : exp_2(s[i][j] - peak);
        sum += s[i][j];
      }
    found.peak[h] = peak;
    found.total[h] = fmaf(found.total[h], old, sum);
#pragma unroll
    for (int i = 0; i < OWN / 8; ++i) found.out[i][2 * h] *= old, found.out[i][2 * h + 1] *= old;
  }
#pragma unroll
  for (int block = 0; block < TILES / 2; ++block) {
    const float *low = s[2 * block], *high = s[2 * block + 1];
    const u32 p[4] = {halves(low[0], low[1]), halves(low[2], low[3]), halves(high[0], high[1]), halves(high[2], high[3])};
#pragma unroll
    for (int i = 0; i < OWN / 16; ++i) {
      u32 v[4];
      load_values(span, block, part * (OWN / 8) + 2 * i, v);
      multiply_add(found.out[2 * i], p, v[0], v[1]);
      multiply_add(found.out[2 * i + 1], p, v[2], v[3]);
    }
  }
}

template <int D>
DEVICE void sum_total(Found<D>& found) {
  for (int h = 0; h < 2; ++h) {
    found.total[h] += __shfl_xor_sync(ALL, found.total[h], 1);
    found.total[h] += __shfl_xor_sync(ALL, found.total[h], 2);
  }
}

// What all threads of a block know of their tile.
template <class K, class V>
struct Task {
  Pages<K, V> pages;
  const float* own;
  int head, oldest, first_position, last;
};

// One range of a tile's keys: brings `found` up to date from nothing. All threads of the block call it.
template <class K, class V, int D, int OWN>
DEVICE void attend_range(Span<D>& span, const Task<K, V>& task, const Scores& how, const Queries<D>& q,
                         const float* const* sink_q, const int* position, int range, int part, bool works,
                         Found<OWN>& found) {
  const int last = task.last;
  found.clear();
  for (int first = range * RANGE_TOKENS; first < (range + 1) * RANGE_TOKENS && first <= last; first += Span<D>::KEYS) {
    if (first >= how.sinks && first + Span<D>::KEYS <= task.oldest) continue;
    __syncthreads();
    span.load(task.pages, task.head, first, last + 1);
    __syncthreads();
    const int from = task.first_position / GROUP_TOKENS;
    const bool has_own = K::GROUPED && first + Span<D>::KEYS > from * GROUP_TOKENS;
    for (int own = 0; own <= has_own; ++own) {
      if (own) {
        __syncthreads();
        span.load_own_keys(task.own, task.pages.heads, task.head, first, last + 1, from);
        __syncthreads();
      }
      if (works) attend<K::GROUPED>(span, q, sink_q, how, first, position, part, own, found);
    }
  }
  sum_total(found);
}

// The Hadamard matrix of `hadamard`, for the rows of the lanes' own dimensions 8 i + 2 t and the next.
template <int D, int SIZE>
DEVICE void turn_back(float (*out)[4]) {
  const int t = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < D / 8; ++i)
    for (int j = 0; j < 4; j += 2) {
      const float a = out[i][j], b = out[i][j + 1];
      out[i][j] = a + b, out[i][j + 1] = a - b;
    }
#pragma unroll
  for (int i = 0; i < D / 2; ++i)
    for (int width = 1; width <= 2; width *= 2) {
      const float value = out[i / 4][i % 4], other = __shfl_xor_sync(ALL, value, width);
      out[i / 4][i % 4] = t & width ? other - value : value + other;
    }
#pragma unroll
  for (int width = 1; width < SIZE / 8; width *= 2)
#pragma unroll
    for (int i = 0; i < D / 8; ++i)
      for (int j = 0; j < 4; ++j)
        if (!(i & width)) {
          const float a = out[i][j], b = out[i + width][j];
          out[i][j] = a + b, out[i + width][j] = a - b;
        }
#pragma unroll
  for (int i = 0; i < D / 2; ++i) out[i / 4][i % 4] *= rsqrtf((float)SIZE);
}

// SPLIT into tiles of one range each: then there are few rows, and PARTS warps share the dimensions of 16 of them.
template <class K, class V, int D, int SIZE, bool SPLIT, int PARTS, class Out>
DEVICE void paged_attention(const float* q, const float* sink_q, const u8* pool, const int* tables, const int* tiles,
                            const int* positions, const int* window, const float* own, Out* y, float* ranges, int q_heads,
                            int heads, int page_size, i64 page_bytes, int width, float scale, float soft_cap) {
  after_previous();
  __shared__ Span<D> span;
  const Tile tile = ((const Tile*)tiles)[blockIdx.x];
  const int head = blockIdx.y, group = q_heads / heads, rows = tile.tokens * group;
  const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4, warp = threadIdx.x / WARP, first_row = warp / PARTS * 16;
  const int part = warp % PARTS;
  const Scores how = {positions, window[0], window[1], scale, soft_cap};
  const int first_position = positions[tile.first], last = positions[tile.first + tile.tokens - 1];
  const Task<K, V> task = {{pool, tables + (i64)tile.sequence * width, page_bytes, page_size, heads, D},
                           own + (i64)tile.own * heads * GROUP_TOKENS * D,
                           head, max(first_position - how.recent + 1, 0), first_position, last};

  i64 at[2];  // where the rows' queries begin; rows past the last do as the last does
  int position[2];
  const float* meets_sinks[2];
  for (int h = 0; h < 2; ++h) {
    const int row = min(first_row + g + 8 * h, rows - 1), token = tile.first + row / group;
    at[h] = ((i64)token * q_heads + head * group + row % group) * D;
    position[h] = positions[token];
    meets_sinks[h] = sink_q + at[h];
  }
  const bool works = first_row < rows;
  Queries<D> queries;
  queries.load(q + at[0], q + at[1]);
  Found<D / PARTS> found;
  if constexpr (SPLIT) {
    attend_range(span, task, how, queries, meets_sinks, position, tile.range, part, works, found);
    for (int h = 0; h < 2; ++h) {
      const int row = first_row + g + 8 * h;
      if (row >= rows) continue;
      float* to = ranges + ((i64)blockIdx.x * q_heads + head * group + row) * (D + 2);
      for (int i = 0; i < D / PARTS / 8; ++i)
        *(float2*)(to + part * (D / PARTS) + 8 * i + 2 * t) = make_float2(found.out[i][2 * h], found.out[i][2 * h + 1]);
      if (t == 0 && part == 0) to[D] = found.peak[h], to[D + 1] = found.total[h];
    }
  } else {
    Found<D> all;
    all.clear();
    for (int range = 0; range * RANGE_TOKENS <= last; ++range) {
      attend_range(span, task, how, queries, meets_sinks, position, range, part, works, found);
      join(all, found);
    }
    for (int h = 0; h < 2; ++h) {
      const float share = 1.0f / all.total[h];
      for (int i = 0; i < D / 4; ++i) {
        float& out = all.out[i / 2][2 * h + i % 2];
        out = __fmul_rn(out, share);  // rounded here and in `join_ranges`, whatever is added to it
      }
    }
    if (V::VALUES_TURNED) turn_back<D, SIZE>(all.out);
    for (int h = 0; h < 2; ++h) {
      if (first_row + g + 8 * h >= rows) continue;
      for (int i = 0; i < D / 8; ++i)
        for (int j = 0; j < 2; ++j) store(y, at[h] + 8 * i + 2 * t + j, all.out[i][2 * h + j]);
    }
  }
}

// Tiles pieces[i] to pieces[i + 1] have the ranges of token i. A block has one query head of a token.
template <class V, int D, int SIZE, class Out>
DEVICE void join_ranges(const float* ranges, const int* pieces, Out* y) {
  after_previous();
  const int token = blockIdx.x, head = blockIdx.y, q_heads = gridDim.y, d = threadIdx.x;
  float peak = LOWEST, total = 0, out = 0;
  const int last = pieces[token + 1];
#pragma unroll 8
  for (int i = pieces[token]; i < last; ++i) {
    const float* from = ranges + ((i64)i * q_heads + head) * (D + 2);
    const float highest = fmaxf(peak, from[D]), old = exp_2(peak - highest), fresh = exp_2(from[D] - highest);
    peak = highest;
    total = joined(total, old, from[D + 1], fresh);
    out = joined(out, old, from[d], fresh);
  }
  out = __fmul_rn(out, 1.0f / total);
  if constexpr (V::VALUES_TURNED) {
    __shared__ float scratch[D];
    out = hadamard<D, SIZE>(scratch, out);
  }
  store(y, ((i64)token * q_heads + head) * D + d, out);
}
