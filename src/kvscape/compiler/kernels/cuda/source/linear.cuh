// y = x W^T by tensor cores, W as the left operand: 16 rows of W by 8 tokens by 16 columns at a time, or 64 by 128 by 16.
//
// The columns are cut into RANGES ranges, each summed by itself and joined in order, by all kernels: a token's numbers
// do not depend on how many there are. Of the columns lane 4 g + t takes group 4 j + t in the j-th chunk; since both
// operands have them in the same order, it need not be theirs. N and K are the weight's rows and columns.

constexpr int RANGES = 8;
constexpr int THREADS = RANGES * WARP;

// What becomes of the sums of a weight's rows: each is a number of its own, ...
struct Plain {
  static constexpr int PARTS = 1;
  typedef float Out;
  static __device__ __forceinline__ float of(const float* sums) { return sums[0]; }
};
// ... or the first half of them are gates of the second.
template <class Gate>
struct Gating {
  static constexpr int PARTS = 2;
  typedef u16 Out;
  static __device__ __forceinline__ float of(const float* sums) { return Gate::of(sums[0]) * sums[1]; }
};

template <class F, int K>
struct Columns {
  static constexpr int CHUNK = 4 * F::GROUP, CHUNKS = (K + CHUNK - 1) / CHUNK, LENGTH = (CHUNKS + RANGES - 1) / RANGES;

  // Piece `piece` of the columns from `column` on; past the last there are zeros.
  static __device__ __forceinline__ uint4 load(const u16* row, int column, int piece) {
    const int at = column + 8 * piece;
    return K % CHUNK == 0 || at < K ? *(const uint4*)(row + at) : make_uint4(0, 0, 0, 0);
  }
};

// Up to 8 TILES tokens; a block has 16 BLOCKS rows of each of the weight's parts, each warp a range of their columns, of
// which DEPTH chunks are under way. Where there are fewer tokens the last one stands for those that are not there.
template <class F, int TILES, int DEPTH, int BLOCKS, class End, int N, int K>
DEVICE void matvec(const uint4* codes, const u32* scales, const u16* x, typename End::Out* y, int n) {
  using C = Columns<F, K>;
  constexpr int PARTS = End::PARTS, OWN = PARTS * BLOCKS, ROW_BLOCKS = N / 16 / PARTS;
  constexpr bool EVEN = C::CHUNKS % RANGES == 0;
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  const int first = warp * C::LENGTH, count = EVEN ? C::LENGTH : max(0, min(C::LENGTH, C::CHUNKS - first));
  const auto packed = [&](int j) {
    const int block = min((int)blockIdx.x * BLOCKS + j / PARTS, ROW_BLOCKS - 1) + j % PARTS * ROW_BLOCKS;
    return Packed<F>(codes, scales, (i64)block * C::CHUNKS + first);
  };
  Packed<F> from[OWN];
  Block<F> ring[DEPTH][OWN];
#pragma unroll
  for (int j = 0; j < OWN; ++j) {
    from[j] = packed(j);
    for (int d = 0; d < DEPTH; ++d)
      if (d < count) ring[d][j].load(from[j], d);
  }
  after_previous();  // weights are there before
  int column = (first * 4 + lane % 4) * F::GROUP;
  const u16* rows[TILES];
#pragma unroll
  for (int i = 0; i < TILES; ++i) rows[i] = x + (i64)min(i * 8 + lane / 4, n - 1) * K;
  float sums[OWN][TILES][4] = {};
#pragma unroll 1
  for (int base = 0; base < count; base += DEPTH) {
#pragma unroll
    for (int d = 0; d < DEPTH; ++d) {
      if ((!EVEN || C::LENGTH % DEPTH) && base + d >= count) break;
      uint4 pieces[TILES][F::GROUP / 8];
#pragma unroll
      for (int i = 0; i < TILES; ++i)
        for (int p = 0; p < F::GROUP / 8; ++p) pieces[i][p] = C::load(rows[i], column + d * C::CHUNK, p);
#pragma unroll
      for (int step = 0; step < F::GROUP / 4; ++step)
#pragma unroll
        for (int j = 0; j < OWN; ++j) {
          u32 a[4];
          ring[d][j].fragment(step, a);
#pragma unroll
          for (int i = 0; i < TILES; ++i) {
            const u32* piece = &pieces[i][step / 2].x + step % 2 * 2;
            multiply_add(sums[j][i], a, piece[0], piece[1]);
          }
        }
      if (base + d + DEPTH < count)
#pragma unroll
        for (int j = 0; j < OWN; ++j) ring[d][j].load(from[j], d + DEPTH);
    }
#pragma unroll
    for (int j = 0; j < OWN; ++j) from[j].advance(DEPTH);
    column += DEPTH * C::CHUNK;
  }
  __shared__ float4 parts[RANGES][OWN * TILES][WARP];
#pragma unroll
  for (int i = 0; i < OWN * TILES; ++i) parts[warp][i][lane] = *(const float4*)sums[i / TILES][i % TILES];
  __syncthreads();
#pragma unroll
  for (int i = threadIdx.x; i < BLOCKS * TILES * 128; i += THREADS) {
    // 16 threads with consecutive rows share a token, so that they write side by side
    const int r = i % 16, token = i / 16 % (8 * TILES), b = i / (128 * TILES), own = blockIdx.x * BLOCKS + b;
    if (token >= n || own >= ROW_BLOCKS) continue;
    const int from = r % 8 * 4 + token % 8 / 2, which = r / 8 * 2 + token % 2;
    float totals[PARTS] = {};
#pragma unroll
    for (int j = 0; j < PARTS; ++j)
      for (int k = 0; k < RANGES; ++k)
        totals[j] += ((const float*)&parts[k][(b * PARTS + j) * TILES + token / 8][from])[which];
    store(y, (i64)token * (N / PARTS) + own * 16 + r, End::of(totals));
  }
}

// Many tokens: a block has 128 rows of the weight and 128 tokens.
constexpr int TOKENS = 128;

// Blocks that run side by side have few tokens and few rows between them, which stay in the L2 cache.
struct Place {
  int rows, tokens;
  __device__ __forceinline__ Place() {
    const int width = gridDim.x, id = blockIdx.y * width + blockIdx.x, group = id / (8 * width);
    const int among = min(8, (int)gridDim.y - group * 8), at = id - group * 8 * width;
    rows = at / among, tokens = group * 8 + at % among;
  }
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// The tokens' numbers in shared memory, 8 columns of all tokens behind another: those that tensor cores multiply at
// once are not neighbours, so they pass through registers on their way.
template <class F, int K>
struct Tokens {
  static constexpr int PIECES = F::GROUP / 8, STAGE = F::GROUP / 2 * TOKENS;
  static constexpr int ITEMS = (TOKENS * PIECES + THREADS - 1) / THREADS;
  uint4 of[ITEMS][4];

  static __device__ __forceinline__ int token(int k) {
    const int i = threadIdx.x + k * THREADS;
    return i / (8 * PIECES) * 8 + i % 8;
  }
  static __device__ __forceinline__ int piece(int k) { return (threadIdx.x + k * THREADS) / 8 % PIECES; }
  __device__ __forceinline__ void load(const u16* x, int first, int n, int chunk) {
#pragma unroll
    for (int k = 0; k < ITEMS; ++k)
      for (int t = 0; t < 4; ++t)
        of[k][t] = Columns<F, K>::load(x + (i64)min(first + token(k), n - 1) * K, (chunk * 4 + t) * F::GROUP, piece(k));
  }
  __device__ __forceinline__ void put(uint4* stage) const {
#pragma unroll
    for (int k = 0; k < ITEMS; ++k) {
      if (TOKENS * PIECES % THREADS && token(k) >= TOKENS) break;
      uint4* to = stage + 4 * piece(k) * TOKENS + token(k);
      to[0] = make_uint4(of[k][0].x, of[k][1].x, of[k][2].x, of[k][3].x);
      to[TOKENS] = make_uint4(of[k][0].y, of[k][1].y, of[k][2].y, of[k][3].y);
      to[2 * TOKENS] = make_uint4(of[k][0].z, of[k][1].z, of[k][2].z, of[k][3].z);
      to[3 * TOKENS] = make_uint4(of[k][0].w, of[k][1].w, of[k][2].w, of[k][3].w);
    }
  }
  // Where tensor cores find a step's 16 columns.
  static __device__ __forceinline__ unsigned long long place(u32 stage, int step) {
    const u32 address = stage + 2 * step * TOKENS * 16;
    return (unsigned long long)((address & 0x3ffff) >> 4) | (unsigned long long)TOKENS << 16 | (unsigned long long)8 << 32;
  }
};

template <class F, class End, int N, int K>
DEVICE void matmul(const uint4* codes, const u32* scales, const u16* x, typename End::Out* y, int n) {
  using X = Tokens<F, K>;
  using C = Columns<F, K>;
  constexpr int ROW_BLOCKS = N / 16 / End::PARTS, STEPS = F::GROUP / 4, HALF = STEPS / 2;
  extern __shared__ uint4 stages[];
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
  const Place place;
  const int first_token = place.tokens * TOKENS;
  const int own = End::PARTS == 1 ? place.rows * 8 + warp : place.rows * 4 + warp % 4;
  const int block = min(own, ROW_BLOCKS - 1) + (End::PARTS == 1 ? 0 : warp / 4 * ROW_BLOCKS);
  const Packed<F> packed(codes, scales, (i64)block * C::CHUNKS);
  float sums[16][4], total[16][4] = {};
  Block<F> weights, next;
  weights.load(packed, 0);
  after_previous();
  X taken;
  taken.load(x, first_token, n, 0);
  taken.put(stages);
  publish();
  taken.load(x, first_token, n, min(1, C::CHUNKS - 1));
  if (F::LOADS < 4) next.load(packed, min(1, C::CHUNKS - 1));
  int adds = 0;
  const u32 nothing = (u32)n >> 31;  // which the compiler does not know
  u32 ahead[HALF][4];                // of half a chunk's steps, made while tensor cores multiply the half before
#pragma unroll
  for (int s = 0; s < HALF; ++s) weights.fragment(s, ahead[s]);
#pragma unroll 1
  for (int base = 0; base < C::CHUNKS; base += C::LENGTH) {
#pragma unroll 1
    for (int chunk = base; chunk < min(base + C::LENGTH, C::CHUNKS); ++chunk) {
      const u32 now = shared_address(stages + chunk % 2 * X::STAGE);
      __syncthreads();
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        u32 a[HALF][4];
#pragma unroll
        for (int i = 0; i < 4 * HALF; ++i) a[i / 4][i % 4] = ahead[i / 4][i % 4] | nothing, settle(a[i / 4][i % 4]);
        warpgroup_fence();
#pragma unroll
        for (int s = 0; s < HALF; ++s) multiply_add_64(sums, a[s], X::place(now, half * HALF + s), adds), adds = 1;
        commit_products();
        if (half == 0) {
          taken.put(stages + (chunk + 1) % 2 * X::STAGE);
          publish();
          taken.load(x, first_token, n, min(chunk + 2, C::CHUNKS - 1));
        }
        if (half == 1) {
          if (F::LOADS < 4) {
            weights = next;
            next.load(packed, min(chunk + 2, C::CHUNKS - 1));
          } else {
            weights.load(packed, min(chunk + 1, C::CHUNKS - 1));
          }
        }
#pragma unroll
        for (int s = 0; s < HALF; ++s) weights.fragment((1 - half) * HALF + s, ahead[s]);
        wait_for_products<0>();
      }
    }
#pragma unroll
    for (int i = 0; i < 64; ++i) total[i / 4][i % 4] += sums[i / 4][i % 4];
    adds = 0;
  }
  if (End::PARTS == 2) {  // the lower warpgroup has gates, the upper one what they let through
    float* other = (float*)stages;
    __syncthreads();
    if (warp >= 4)
      for (int i = 0; i < 64; ++i) other[i * 128 + threadIdx.x % 128] = total[i / 4][i % 4];
    __syncthreads();
    if (warp >= 4) return;
#pragma unroll
    for (int i = 0; i < 64; ++i) {
      const float both[2] = {total[i / 4][i % 4], other[i * 128 + threadIdx.x]};
      total[i / 4][i % 4] = End::of(both);
    }
  }
#pragma unroll
  for (int i = 0; i < 64; ++i) {
    const int token = first_token + i / 4 * 8 + 2 * t + i % 2, row = own * 16 + g + i % 4 / 2 * 8;
    if (token < n && own < ROW_BLOCKS) store(y, (i64)token * (N / End::PARTS) + row, total[i / 4][i % 4]);
  }
}

#else

// A warp has 32 rows by 64 tokens; tokens pass through shared memory, weights do not.
template <class F, int K>
struct Product {
  static constexpr int PIECES = F::GROUP / 8, SLOTS = 4 * PIECES;
  static constexpr int FLIP = SLOTS % 8 == 0 ? 4 : 0;  // lanes of two tokens would else meet in the same banks
  static constexpr int STAGE_BYTES = TOKENS * SLOTS * 16;

  static __device__ __forceinline__ int slot(int token, int t, int piece) {
    return token * SLOTS + ((piece * 4 + t) ^ (token % 2 * FLIP));
  }
  static __device__ __forceinline__ void fetch(u32 stage, const u16* x, int first, int n, int chunk) {
    for (int i = threadIdx.x; i < TOKENS * SLOTS; i += THREADS) {
      const int token = i / SLOTS, s = i % SLOTS, column = (chunk * SLOTS + s) * 8;
      const bool there = first + token < n && column < K;
      copy_async(stage + slot(token, s / PIECES, s % PIECES) * 16, x + (there ? (i64)(first + token) * K + column : 0),
                 there);
    }
  }
  static __device__ __forceinline__ void join(float* total, float* sums) {
    for (int i = 0; i < 64; ++i) total[i] += sums[i], sums[i] = 0;
  }
};

template <class F, class End, int N, int K>
DEVICE void matmul(const uint4* codes, const u32* scales, const u16* x, typename End::Out* y, int n) {
  using P = Product<F, K>;
  using C = Columns<F, K>;
  constexpr int ROW_BLOCKS = N / 16 / End::PARTS, CHUNKS = C::CHUNKS;
  extern __shared__ uint4 stages[];
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
  const Place place;
  const int first_token = place.tokens * TOKENS, tokens = warp / 4 * 64;
  const int own = End::PARTS == 1 ? place.rows * 8 + warp % 4 * 2 : place.rows * 4 + warp % 4;
  float sums[2][8][4] = {}, total[2][8][4] = {};
  const auto packed = [&](int b) {
    const int block = min(End::PARTS == 1 ? own + b : own, ROW_BLOCKS - 1) + (End::PARTS == 1 ? 0 : b * ROW_BLOCKS);
    return Packed<F>(codes, scales, (i64)block * CHUNKS);
  };
  const Packed<F> from[2] = {packed(0), packed(1)};
  Block<F> next[2];
  if (F::LOADS == 1)  // others have no registers left for it
#pragma unroll
    for (int b = 0; b < 2; ++b) next[b].load(from[b], 0);
  after_previous();
  P::fetch(shared_address(stages), x, first_token, n, 0);
  commit_copies();
#pragma unroll 1
  for (int chunk = 0; chunk < CHUNKS; ++chunk) {
    Block<F> weights[2];
#pragma unroll
    for (int b = 0; b < 2; ++b) {
      if (F::LOADS == 1) {
        weights[b] = next[b];
        next[b].load(from[b], min(chunk + 1, CHUNKS - 1));
      } else {
        weights[b].load(from[b], chunk);
      }
    }
    const uint4* stage = stages + chunk % 2 * (P::STAGE_BYTES / 16);
    if (chunk + 1 < CHUNKS)
      P::fetch(shared_address(stages) + (chunk + 1) % 2 * P::STAGE_BYTES, x, first_token, n, chunk + 1);
    commit_copies();
    wait_for_copies<1>();
    __syncthreads();
    if (chunk > 0 && chunk % C::LENGTH == 0) P::join(&total[0][0][0], &sums[0][0][0]);
#pragma unroll
    for (int p = 0; p < P::PIECES; ++p) {
      u32 a[2][2][4];
#pragma unroll
      for (int i = 0; i < 4; ++i) weights[i / 2].fragment(2 * p + i % 2, a[i / 2][i % 2]);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const uint4 piece = stage[P::slot(tokens + i * 8 + g, t, p)];
#pragma unroll
        for (int b = 0; b < 2; ++b) {
          multiply_add(sums[b][i], a[b][0], piece.x, piece.y);
          multiply_add(sums[b][i], a[b][1], piece.z, piece.w);
        }
      }
    }
    __syncthreads();
  }
  P::join(&total[0][0][0], &sums[0][0][0]);
#pragma unroll
  for (int i = 0; i < 64; ++i) {
    const int b = i / 32, tile = i / 4 % 8, which = i % 4, token = first_token + tokens + tile * 8 + 2 * t + which % 2;
    const int block = End::PARTS == 1 ? own + b : own, row = block * 16 + g + which / 2 * 8;
    if (token >= n || block >= ROW_BLOCKS || b >= 3 - End::PARTS) continue;
    const float both[2] = {total[b][tile][which], total[1][tile][which]};
    store(y, (i64)token * (N / End::PARTS) + row, End::of(both));
  }
}
#endif
