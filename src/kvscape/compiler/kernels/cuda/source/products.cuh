// y = x W^T of many tokens on any GPU: a block has 128 rows of the weight and 128 tokens, a warp 32 rows by 64 tokens.
// Tokens pass through shared memory, weights do not.
constexpr int TOKENS = 128;

// Blocks that run side by side have few tokens and few rows between them, which stay in the L2 cache.
struct Place {
  int rows, tokens;
  __device__ __forceinline__ Place(int id, int width, int height) {
    const int group = id / (8 * width), among = min(8, height - group * 8), at = id - group * 8 * width;
    rows = at / among, tokens = group * 8 + at % among;
  }
};

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
DEVICE void multiply(const uint4* codes, const u32* scales, const u16* x, typename End::Out* y, int n) {
  using P = Product<F, K>;
  using C = Columns<F, K>;
  constexpr int ROW_BLOCKS = N / 16 / End::PARTS, CHUNKS = C::CHUNKS;
  extern __shared__ uint4 stages[];
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
  const Place place(blockIdx.y * gridDim.x + blockIdx.x, gridDim.x, gridDim.y);
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
