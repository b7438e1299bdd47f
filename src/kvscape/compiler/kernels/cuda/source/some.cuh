// y = x W^T for some tokens, too many for `matvec` to have their sums in one warp's registers, too few for tiles of 128.
//
// A block has 32 WARPS rows of the weight, 32 for each warp, and all tokens, TOKENS at most, whose numbers pass through
// shared memory, STAGES chunks of columns at a time, while DEPTH chunks of weights are under way. Where a weight has so
// few rows that their blocks would not keep the memory busy, a block has one range of columns (SPLIT), and
// `join_partials` adds what they leave in `partials` [RANGES, n, N]. Else it has them all, and its totals in shared memory.

// A stage: 16 bytes for each token, lane of four and piece of a group, in the order in which warps read them.
template <class F, int K, int TOKENS, int BLOCK>
struct SomeTokens {
  static constexpr int PIECES = F::GROUP / 8, SLOTS = 4 * PIECES, SIZE = TOKENS * SLOTS;
  static constexpr int FLIP = SLOTS % 8 == 0 ? 4 : 0;  // lanes of two tokens would else meet in the same banks

  static __device__ __forceinline__ int slot(int token, int t, int piece) {
    return token * SLOTS + ((piece * 4 + t) ^ (token % 2 * FLIP));
  }
  // Where there are fewer tokens the last one stands for those that are not there.
  static __device__ __forceinline__ void fetch(u32 stage, const u16* x, int n, int chunk) {
#pragma unroll
    for (int i = threadIdx.x; i < SIZE; i += BLOCK) {
      const int token = i / SLOTS, s = i % SLOTS, column = (chunk * SLOTS + s) * 8;
      const bool there = K % (SLOTS * 8) == 0 || column < K;
      copy_async(stage + slot(token, s / PIECES, s % PIECES) * 16, x + (there ? min(token, n - 1) * K + column : 0), there);
    }
  }
};

template <class F, int TOKENS, int WARPS, int DEPTH, int STAGES, bool SPLIT, class End, int N, int K>
DEVICE void multiply_some(const uint4* codes, const u32* scales, const u16* x, typename End::Out* y, float* partials, int n) {
  using C = Columns<F, K>;
  using S = SomeTokens<F, K, TOKENS, WARPS * WARP>;
  constexpr int PARTS = End::PARTS, ROW_BLOCKS = N / 16 / PARTS, TILES = TOKENS / 8;
  constexpr int AT_ONCE = TILES % 4 == 0 ? 4 : TILES % 3 == 0 ? 3 : 2;
  extern __shared__ uint4 stages[];
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
  const int first = SPLIT ? blockIdx.y * C::LENGTH : 0, count = min(SPLIT ? C::LENGTH : C::CHUNKS, C::CHUNKS - first);
  const int own = (blockIdx.x * WARPS + warp) * (2 / PARTS);
  Packed<F> from[2];
  Block<F> ring[DEPTH][2];
#pragma unroll
  for (int b = 0; b < 2; ++b) {
    const int block = min(PARTS == 1 ? own + b : own, ROW_BLOCKS - 1) + (PARTS == 1 ? 0 : b * ROW_BLOCKS);
    from[b] = Packed<F>(codes, scales, (i64)block * C::CHUNKS + first);
    for (int d = 0; d < DEPTH; ++d)
      if (d < count) ring[d][b].load(from[b], d);
  }
  after_previous();  // weights are there before
#pragma unroll
  for (int s = 0; s < STAGES - 1; ++s) {
    if (s < count) S::fetch(shared_address(stages + s * S::SIZE), x, n, first + s);
    commit_copies();
  }
  float sums[2][TILES][4] = {};
  float4* totals = (float4*)(stages + STAGES * S::SIZE) + threadIdx.x;
  const auto join = [&](bool is_first) {
#pragma unroll
    for (int i = 0; i < 2 * TILES; ++i) {
      float* sum = sums[i / TILES][i % TILES];
      float4& total = totals[i * WARPS * WARP];
      const float4 old = is_first ? make_float4(0, 0, 0, 0) : total;
      total = make_float4(old.x + sum[0], old.y + sum[1], old.z + sum[2], old.w + sum[3]);
      sum[0] = sum[1] = sum[2] = sum[3] = 0;
    }
  };
#pragma unroll 1
  for (int base = 0; base < count; base += DEPTH) {
#pragma unroll
    for (int d = 0; d < DEPTH; ++d) {
      const int chunk = base + d, behind = chunk + STAGES - 1;
      if (chunk >= count) break;
      wait_for_copies<STAGES - 2>();
      __syncthreads();  // all copies of this stage are there, and nobody reads the one before any more
      if (behind < count) S::fetch(shared_address(stages + behind % STAGES * S::SIZE), x, n, first + behind);
      commit_copies();
      if (!SPLIT && chunk > 0 && chunk % C::LENGTH == 0) join(chunk == C::LENGTH);
      const uint4* stage = stages + chunk % STAGES * S::SIZE;
#pragma unroll
      for (int p = 0; p < S::PIECES; ++p) {
        u32 a[2][2][4];
#pragma unroll
        for (int i = 0; i < 4; ++i) ring[d][i / 2].fragment(2 * p + i % 2, a[i / 2][i % 2]);
#pragma unroll
        for (int i = 0; i < TILES; i += AT_ONCE) {
          uint4 pieces[AT_ONCE];
#pragma unroll
          for (int k = 0; k < AT_ONCE; ++k) pieces[k] = stage[S::slot((i + k) * 8 + g, t, p)];
#pragma unroll
          for (int s = 0; s < 2; ++s)
#pragma unroll
            for (int k = 0; k < 2 * AT_ONCE; ++k) {
              const u32* piece = &pieces[k / 2].x + 2 * s;
              multiply_add(sums[k % 2][i + k / 2], a[k % 2][s], piece[0], piece[1]);
            }
        }
      }
      if (chunk + DEPTH < count)
#pragma unroll
        for (int b = 0; b < 2; ++b) ring[d][b].load(from[b], d + DEPTH);
    }
#pragma unroll
    for (int b = 0; b < 2; ++b) from[b].advance(DEPTH);
  }
  if (!SPLIT) join(C::CHUNKS <= C::LENGTH);
#pragma unroll
  for (int i = 0; i < 8 * TILES; ++i) {
    const int b = i / (4 * TILES), tile = i / 4 % TILES, which = i % 4, token = tile * 8 + 2 * t + which % 2;
    const int block = PARTS == 1 ? own + b : own, row = block * 16 + g + which / 2 * 8;
    if (token >= n || block >= ROW_BLOCKS) continue;
    if (SPLIT) {
      const int place = row + (PARTS == 1 ? 0 : b * ROW_BLOCKS * 16);
      partials[((i64)blockIdx.y * n + token) * N + place] = sums[b][tile][which];
    } else if (b < 3 - PARTS) {
      const float both[2] = {((const float*)(totals + (b * TILES + tile) * WARPS * WARP))[which],
                             ((const float*)(totals + (TILES + tile) * WARPS * WARP))[which]};
      store(y, (i64)token * (N / PARTS) + row, End::of(both));
    }
  }
}

// Four rows for each thread.
template <class F, class End, int N, int K>
DEVICE void join_partials(const float* partials, typename End::Out* y, int n) {
  using C = Columns<F, K>;
  constexpr int PARTS = End::PARTS, ROWS = N / PARTS, COUNT = (C::CHUNKS + C::LENGTH - 1) / C::LENGTH;
  after_previous();
  const int at = (blockIdx.x * THREADS + threadIdx.x) * 4, token = at / ROWS, row = at % ROWS;
  if (token >= n) return;
  float totals[4][PARTS] = {};
#pragma unroll
  for (int part = 0; part < PARTS; ++part)
#pragma unroll
    for (int range = 0; range < COUNT; ++range) {
      const float4 sum = *(const float4*)(partials + ((i64)range * n + token) * N + part * ROWS + row);
      totals[0][part] += sum.x, totals[1][part] += sum.y, totals[2][part] += sum.z, totals[3][part] += sum.w;
    }
  store4(y, at, make_float4(End::of(totals[0]), End::of(totals[1]), End::of(totals[2]), End::of(totals[3])));
}
