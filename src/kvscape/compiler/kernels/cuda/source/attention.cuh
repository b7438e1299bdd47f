// Paged causal attention by tensor cores, with an online softmax (FlashAttention, arXiv 2205.14135).
//
// A block has a tile (tokens of one sequence) and one key head; its rows are the tokens' query heads that share the key
// head, 16 for each warp. Keys are taken in spans, and the sums of each range of RANGE_TOKENS keys are joined in order,
// within a tile that has all its ranges as by `join_ranges`, which joins those of tiles that have one each: a query's
// numbers depend on neither tile nor batch. kernels/cpu/attention.py says what windows and sinks are.

// Values of 16 keys by 16 dimensions as the right operand of two products.
template <int D>
DEVICE void load_values(const Span<D>& span, int block, int piece, u32* v) {
  const int lane = threadIdx.x % WARP, row = block * 16 + lane / 8 % 2 * 8 + lane % 8;
  load_transposed(shared_address(span.values + row * Span<D>::VALUE_STRIDE + piece + lane / 16), v);
}

// The scores of TILES times 8 keys of a span, which begin at `first`; `all_seen` where every query sees all of them.
template <bool GROUPED, int D, int TILES>
DEVICE void score(const uint4* keys, const Queries<D>& q, const float* const* sink_q, const Scores& how, int first,
                  const int* position, bool own, bool all_seen, float (*s)[4]) {
  const int t = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < 4 * TILES; ++i) s[i / 4][i % 4] = 0;
  q.template multiply<TILES>(keys, 8 * Span<D>::KEY_STRIDE, s);
  if (all_seen && how.soft_cap <= 0) {
#pragma unroll
    for (int i = 0; i < 4 * TILES; ++i) s[i / 4][i % 4] = s[i / 4][i % 4] * how.scale * LOG2_E;
    return;
  }
  if (first < how.sinks) {
#pragma unroll
    for (int i = 0; i < TILES; ++i) {
      if (first + i * 8 >= how.sinks) break;
      float sink_s[1][4] = {};
#pragma unroll 1
      for (int c = 0; c < D / 32; ++c) {  // all at once would leave no registers
        Queries<32> other;
        other.load(sink_q[0] + 32 * c, sink_q[1] + 32 * c);
        other.template multiply<1>(keys + i * 8 * Span<D>::KEY_STRIDE + 4 * c, 0, sink_s);
      }
      for (int j = 0; j < 4; ++j)
        if (first + i * 8 + 2 * t + j % 2 < how.sinks) s[i][j] = sink_s[0][j];
    }
  }
#pragma unroll
  for (int i = 0; i < TILES; ++i)
    for (int j = 0; j < 4; ++j)
      s[i][j] = how.visible<GROUPED>(first + i * 8 + 2 * t + j % 2, position[j / 2], own) ? how.of(s[i][j]) : LOWEST;
}

// The highest of a row's scores in TILES tiles, and of `peak`.
template <int TILES>
DEVICE float highest(const float (*s)[4], int h, float peak) {
#pragma unroll
  for (int i = 0; i < TILES; ++i) peak = fmaxf(peak, fmaxf(s[i][2 * h], s[i][2 * h + 1]));
  peak = fmaxf(peak, __shfl_xor_sync(ALL, peak, 1));
  return fmaxf(peak, __shfl_xor_sync(ALL, peak, 2));
}
DEVICE float weight(float s, float peak) { return s == LOWEST ? 0.0f : exp_2(s - peak); }

// The weights of all keys of a span, and the rows' new peaks. Warps that share 16 rows share the keys as well; where there
// are few rows, the upper 8 are none.
template <bool GROUPED, int D, int PARTS>
DEVICE void weigh(const Span<D>& span, const Queries<D>& q, const float* const* sink_q, const Scores& how, int first,
                  const int* position, int part, bool own, bool upper, float* peaks, float (*s)[4]) {
  constexpr int TILES = Span<D>::KEYS / 8;
  const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
  const uint4* keys = span.keys + g * Span<D>::KEY_STRIDE + t;
  if constexpr (PARTS < WARPS) {
    score<GROUPED, D, TILES>(keys, q, sink_q, how, first, position, own, false, s);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      peaks[h] = highest<TILES>(s, h, peaks[h]);
#pragma unroll
      for (int i = 0; i < TILES; ++i)
        for (int j = 2 * h; j < 2 * h + 2; ++j) s[i][j] = weight(s[i][j], peaks[h]);
    }
  } else {
    constexpr int EACH = TILES / PARTS;
    __shared__ float peaks_of[PARTS][16], weights[16][TILES * 8 + 8];
    float few[EACH][4];
    const int skip = part * EACH * 8;
    score<GROUPED, D, EACH>(keys + skip * Span<D>::KEY_STRIDE, q, sink_q, how, first + skip, position, own, false, few);
#pragma unroll
    for (int h = 0; h < 2; ++h)
      if (h == 0 || upper) {
        const float peak = highest<EACH>(few, h, LOWEST);
        if (t == 0) peaks_of[part][g + 8 * h] = peak;
      }
    __syncthreads();
#pragma unroll
    for (int h = 0; h < 2; ++h)
      if (h == 0 || upper) {
        for (int k = 0; k < PARTS; ++k) peaks[h] = fmaxf(peaks[h], peaks_of[k][g + 8 * h]);
#pragma unroll
        for (int i = 0; i < EACH; ++i)
          *(float2*)&weights[g + 8 * h][(part * EACH + i) * 8 + 2 * t] =
              make_float2(weight(few[i][2 * h], peaks[h]), weight(few[i][2 * h + 1], peaks[h]));
      }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < TILES; ++i)
      for (int h = 0; h < 2; ++h) {
        const float2 two = h == 0 || upper ? *(const float2*)&weights[g + 8 * h][i * 8 + 2 * t] : make_float2(0, 0);
        s[i][2 * h] = two.x, s[i][2 * h + 1] = two.y;
      }
  }
}

// Of the values a warp takes the dimensions of its part, OWN of them.
template <bool GROUPED, int D, int OWN>
DEVICE void attend(const Span<D>& span, const Queries<D>& q, const float* const* sink_q, const Scores& how, int first,
                   const int* position, int part, bool own, bool upper, Found<OWN>& found) {
  constexpr int TILES = Span<D>::KEYS / 8;
  float s[TILES][4], peaks[2] = {found.peak[0], found.peak[1]};
  weigh<GROUPED, D, D / OWN>(span, q, sink_q, how, first, position, part, own, upper, peaks, s);
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const float old = exp_2(found.peak[h] - peaks[h]);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < TILES; ++i)
      for (int j = 2 * h; j < 2 * h + 2; ++j) sum += s[i][j];
    found.peak[h] = peaks[h];
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

// A span that is a range: what is found in it joins `all` piece by piece, so that registers are left. The numbers are those
// of `attend` and `join`.
template <bool GROUPED, int D>
DEVICE void attend_and_join(const Span<D>& span, const Queries<D>& q, const float* const* sink_q, const Scores& how, int first,
                            const int* position, bool all_seen, Found<D>& all) {
  constexpr int TILES = Span<D>::KEYS / 8, PIECES = 2;
  const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
  float s[TILES][4], old[2], fresh[2];
  score<GROUPED, D, TILES>(span.keys + g * Span<D>::KEY_STRIDE + t, q, sink_q, how, first, position, false, all_seen, s);
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const float own_peak = highest<TILES>(s, h, LOWEST), peak = fmaxf(all.peak[h], own_peak);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < TILES; ++i)
      for (int j = 2 * h; j < 2 * h + 2; ++j) s[i][j] = weight(s[i][j], own_peak), sum += s[i][j];
    old[h] = exp_2(all.peak[h] - peak), fresh[h] = exp_2(own_peak - peak);
    all.peak[h] = peak;
    all.total[h] = joined(all.total[h], old[h], sum_of_row(sum), fresh[h]);
  }
  u32 p[TILES / 2][4];
#pragma unroll
  for (int i = 0; i < 2 * TILES; ++i) p[i / 4][i % 4] = halves(s[i / 2][i % 2 * 2], s[i / 2][i % 2 * 2 + 1]);
#pragma unroll
  for (int piece = 0; piece < D / 16; piece += PIECES) {
    float out[2 * PIECES][4] = {};
#pragma unroll
    for (int block = 0; block < TILES / 2; ++block)
#pragma unroll
      for (int i = 0; i < PIECES; ++i) {
        u32 v[4];
        load_values(span, block, 2 * (piece + i), v);
        multiply_add(out[2 * i], p[block], v[0], v[1]);
        multiply_add(out[2 * i + 1], p[block], v[2], v[3]);
      }
#pragma unroll
    for (int i = 0; i < 8 * PIECES; ++i) {
      float& sum = all.out[2 * piece + i / 4][i % 4];
      sum = joined(sum, old[i % 4 / 2], out[i / 4][i % 4], fresh[i % 4 / 2]);
    }
  }
}

// What all threads of a block know of their tile.
template <class K, class V>
struct Task {
  Pages<K, V> pages;
  const float* own;
  int head, oldest, first_position, last;
};

// A span that is there, and keys of its own groups as they were.
template <class K, class V, int D, int OWN>
DEVICE void attend_span(Span<D>& span, const Task<K, V>& task, const Scores& how, const Queries<D>& q,
                        const float* const* sink_q, const int* position, int first, int part, int rows, bool works,
                        Found<OWN>& found) {
  const int from = task.first_position / GROUP_TOKENS;
  const bool has_own = K::GROUPED && first + Span<D>::KEYS > from * GROUP_TOKENS;
  for (int own = 0; own <= has_own; ++own) {
    if (own) {
      __syncthreads();
      span.load_own_keys(task.own, task.pages.heads, task.head, first, task.last + 1, from);
      __syncthreads();
    }
    if (works) attend<K::GROUPED>(span, q, sink_q, how, first, position, part, own, rows > 8, found);
  }
}

// One range of a tile's keys: brings `found` up to date from nothing. The span that begins at `loaded` is there. All
// threads of the block call it.
template <class K, class V, int D, int OWN>
DEVICE void attend_range(Span<D>& span, const Task<K, V>& task, const Scores& how, const Queries<D>& q,
                         const float* const* sink_q, const int* position, int range, int part, int rows, bool works,
                         int loaded, Found<OWN>& found) {
  const int last = task.last;
  found.clear();
  for (int first = range * RANGE_TOKENS; first < (range + 1) * RANGE_TOKENS && first <= last; first += Span<D>::KEYS) {
    if (first >= how.sinks && first + Span<D>::KEYS <= task.oldest) continue;
    if (first != loaded) {
      __syncthreads();
      span.load(task.pages, task.head, first, last + 1);
    }
    __syncthreads();
    attend_span(span, task, how, q, sink_q, position, first, part, rows, works, found);
  }
  sum_total(found);
}

// All ranges in order; the next of two spans is on its way while one is attended to.
template <class K, class V, int D>
DEVICE void attend_ranges(Span<D>* spans, const Task<K, V>& task, const Scores& how, const Queries<D>& q,
                          const float* const* sink_q, const int* position, int rows, bool works, Found<D>& all) {
  constexpr int KEYS = Span<D>::KEYS;
  const auto seen_from = [&](int first) {
    return first >= how.sinks && first + KEYS <= task.oldest ? task.oldest / KEYS * KEYS : first;
  };
  int first = seen_from(0), next = seen_from(first + KEYS);
  spans[0].locate(task.pages, first, task.last + 1);
  spans[1].locate(task.pages, next, task.last + 1);
  __syncthreads();
  auto of_group = spans[0].ask(task.pages, task.head, first, task.last + 1);
  constexpr int EACH = RANGE_TOKENS / KEYS;
  const int own_from = task.first_position / GROUP_TOKENS * GROUP_TOKENS;
  Found<D> found;
  int range = -1;
  all.clear();
#pragma unroll 1
  for (int i = 0; first <= task.last; ++i) {
    Span<D>& span = spans[i % 2];
    Span<D>& other = spans[(i + 1) % 2];
    span.template finish<K, V>(of_group);
    __syncthreads();  // what was asked for is there, and nobody reads the other span
    if (next <= task.last) of_group = other.ask(task.pages, task.head, next, task.last + 1);
    if (EACH == 1 && (!K::GROUPED || first + KEYS <= own_from)) {
      // Where all are seen no window is full, and queries meet the sinks as they are.
      const bool all_seen = first + KEYS - 1 <= task.first_position && first > task.last - how.recent;
      if (works) attend_and_join<K::GROUPED>(span, q, sink_q, how, first, position, all_seen, all);
    } else {
      if (EACH == 1 || first / RANGE_TOKENS != range) found.clear(), range = first / RANGE_TOKENS;
      attend_span(span, task, how, q, sink_q, position, first, 0, rows, works, found);
      if (EACH == 1 || next > task.last || next / RANGE_TOKENS != range) sum_total(found), join(all, found);
    }
    first = next, next = seen_from(next + KEYS);
    span.locate(task.pages, next, task.last + 1);
  }
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
  // The last tiles of a sequence take longest: they come first, lest others wait for them.
  const Tile tile = ((const Tile*)tiles)[SPLIT ? blockIdx.x : gridDim.x - 1 - blockIdx.x];
  const int head = blockIdx.y, group = q_heads / heads, rows = tile.tokens * group;
  const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4, warp = threadIdx.x / WARP, first_row = warp / PARTS * 16;
  const int part = warp % PARTS;
  const Scores how = {positions, window[0], window[1], scale, soft_cap};
  const int first_position = positions[tile.first], last = positions[tile.first + tile.tokens - 1];
  const Task<K, V> task = {{pool, tables + (i64)tile.sequence * width, page_bytes, page_size, heads, D},
                           own + (i64)tile.own * heads * GROUP_TOKENS * D,
                           head, max(first_position - how.recent + 1, 0), first_position, last};

  // Keys of earlier steps are there before the last kernel ends, and most ranges have no others.
  const int begin = tile.range * RANGE_TOKENS;
  const bool ahead = SPLIT && begin + RANGE_TOKENS <= first_position && begin + Span<D>::KEYS > task.oldest;
  Span<D>* spans;
  if constexpr (SPLIT) {
    __shared__ Span<D> span;
    spans = &span;
    if (ahead) span.load(task.pages, head, begin, last + 1);
  } else {
    extern __shared__ uint4 stages[];
    spans = (Span<D>*)stages;
  }
  after_previous();
  i64 at[2];  // where the rows' queries begin; rows past the last do as the last does
  int position[2];
  const float* meets_sinks[2];
  for (int h = 0; h < 2; ++h) {
    const int row = min(first_row + g + 8 * h, rows - 1), token = tile.first + row / group;
    at[h] = ((i64)token * q_heads + head * group + row % group) * D;
    position[h] = positions[token];
    // Within a full window a query meets the sinks as it is: of many tokens only the others are written for them.
    meets_sinks[h] = (position[h] - how.sinks < how.recent ? q : sink_q) + at[h];
  }
  const bool works = first_row < rows;
  Queries<D> queries;
  queries.load(q + at[0], q + at[1]);
  if constexpr (SPLIT) {
    Found<D / PARTS> found;
    attend_range(*spans, task, how, queries, meets_sinks, position, tile.range, part, rows, works, ahead ? begin : -1,
                 found);
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
    attend_ranges(spans, task, how, queries, meets_sinks, position, rows, works, all);
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
