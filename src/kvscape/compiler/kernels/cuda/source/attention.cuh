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

  __device__ __forceinline__ bool visible(int key, int position) const {
    return key <= position && (key < sinks || key > position - recent);
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

  template <class P>
  __device__ __forceinline__ void load(const u8* layer, const int* table, i64 page_bytes, Page<P> page, int head,
                                       int first, int keys_there) {
#pragma unroll 8
    for (int i = threadIdx.x; i < KEYS * PIECES; i += blockDim.x) {
      const int r = i / PIECES, c = i % PIECES, key = first + r;
      if (P::PLAIN) {  // what lies in the page is what is multiplied: all copies are under way at once
        const bool there = key < keys_there;
        const u8* page_start = layer + table[there ? key / page.page_size : 0] * page_bytes + c * P::code_bytes(8);
        const int at = there ? key % page.page_size : 0;
        copy_async(shared_address(keys + r * KEY_STRIDE + c), page_start + page.key(head, at), there);
        copy_async(shared_address(values + r * VALUE_STRIDE + c), page_start + page.value(head, at), there);
        continue;
      }
      uint4 k = make_uint4(0, 0, 0, 0), v = k;
      if (key < keys_there) {
        const u8* start = layer + table[key / page.page_size] * page_bytes;
        const int token = key % page.page_size, skip = c * P::code_bytes(8);
        k = P::read(start + page.key(head, token) + skip, start + page.key_scale(head, token));
        v = P::read(start + page.value(head, token) + skip, start + page.value_scale(head, token));
      }
      keys[r * KEY_STRIDE + c] = k;
      values[r * VALUE_STRIDE + c] = v;
    }
    commit_copies();
    wait_for_copies<0>();
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
template <int D, int OWN>
DEVICE void attend(const Span<D>& span, const Queries<D>& q, const float* const* sink_q, const Scores& how, int first,
                   const int* position, int part, Found<OWN>& found) {
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
        s[i][j] = how.visible(first + i * 8 + 2 * t + j % 2, position[h]) ? how.of(s[i][j]) : LOWEST;
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

// One range of a tile's keys: brings `found` up to date from nothing. All threads of the block call it.
template <class P, int D, int OWN>
DEVICE void attend_range(Span<D>& span, const u8* pool, const int* table, i64 page_bytes, Page<P> page, int head,
                         const Scores& how, const Queries<D>& q, const float* const* sink_q, const int* position,
                         int oldest, int last, int range, int part, bool works, Found<OWN>& found) {
  found.clear();
  for (int first = range * RANGE_TOKENS; first < (range + 1) * RANGE_TOKENS && first <= last; first += Span<D>::KEYS) {
    if (first >= how.sinks && first + Span<D>::KEYS <= oldest) continue;
    __syncthreads();
    span.load(pool, table, page_bytes, page, head, first, last + 1);
    __syncthreads();
    if (works) attend(span, q, sink_q, how, first, position, part, found);
  }
  sum_total(found);
}

// SPLIT into tiles of one range each: then there are few rows, and PARTS warps share the dimensions of 16 of them.
template <class P, int D, bool SPLIT, int PARTS, class Out>
DEVICE void paged_attention(const float* q, const float* sink_q, const u8* pool, const int* tables, const int* tiles,
                            const int* positions, const int* window, Out* y, float* ranges, int q_heads, int heads,
                            int page_size, i64 page_bytes, int width, float scale, float soft_cap) {
  after_previous();
  __shared__ Span<D> span;
  const Tile tile = ((const Tile*)tiles)[blockIdx.x];
  const int head = blockIdx.y, group = q_heads / heads, rows = tile.tokens * group;
  const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4, warp = threadIdx.x / WARP, first_row = warp / PARTS * 16;
  const int part = warp % PARTS;
  const Scores how = {positions, window[0], window[1], scale, soft_cap};
  const Page<P> page = {nullptr, page_size, heads, D};
  const int* table = tables + tile.sequence * width;
  const int last = positions[tile.first + tile.tokens - 1], oldest = max(positions[tile.first] - how.recent + 1, 0);

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
    attend_range(span, pool, table, page_bytes, page, head, how, queries, meets_sinks, position, oldest, last,
                 tile.range, part, works, found);
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
      attend_range(span, pool, table, page_bytes, page, head, how, queries, meets_sinks, position, oldest, last, range,
                   part, works, found);
      join(all, found);
    }
    for (int h = 0; h < 2; ++h) {
      if (first_row + g + 8 * h >= rows) continue;
      const float share = 1.0f / all.total[h];
      for (int i = 0; i < D / 8; ++i)
        for (int j = 0; j < 2; ++j) store(y, at[h] + 8 * i + 2 * t + j, all.out[i][2 * h + j] * share);
    }
  }
}

// Tiles pieces[i] to pieces[i + 1] have the ranges of token i. A block has one query head of a token.
template <int D, class Out>
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
  store(y, ((i64)token * q_heads + head) * D + d, out * (1.0f / total));
}
