// y = x W^T by tensor cores, W as the left operand: 16 rows of W by 8 tokens by 16 columns at a time.
//
// The columns are cut into RANGES ranges, each summed by itself and joined in order, by both kernels: a token's numbers
// do not depend on how many there are. Of the columns lane 4 g + t takes group 4 j + t in the j-th chunk; since both
// operands have them in the same order, it need not be theirs.

constexpr int RANGES = 8;
constexpr int THREADS = RANGES * WARP;

// Up to 8 TILES tokens; a block has 16 BLOCKS rows, each warp a range of their columns.
template <class F, int TILES, int BLOCKS>
DEVICE void matvec(const uint4* codes, const u32* scales, const u16* x, float* y, int n, int N, int K) {
  constexpr int PIECES = F::GROUP / 8;
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
  const int chunks = (K + 4 * F::GROUP - 1) / (4 * F::GROUP), length = (chunks + RANGES - 1) / RANGES;
  const int first = min(warp * length, chunks), last = min(first + length, chunks);
  const int row_block = blockIdx.x * BLOCKS, row_blocks = N / 16;
  float sums[BLOCKS][TILES][4] = {};
  Block<F> next[BLOCKS];
  if (first < last)
#pragma unroll
    for (int b = 0; b < BLOCKS; ++b)
      next[b].load(codes, scales, (i64)min(row_block + b, row_blocks - 1) * chunks + first);
  after_previous();  // weights are there before
  for (int chunk = first; chunk < last; ++chunk) {
    Block<F> weights[BLOCKS];
#pragma unroll
    for (int b = 0; b < BLOCKS; ++b) {
      weights[b] = next[b];
      next[b].load(codes, scales, (i64)min(row_block + b, row_blocks - 1) * chunks + min(chunk + 1, last - 1));
    }
    uint4 pieces[TILES][PIECES];
    const int column = (chunk * 4 + t) * F::GROUP;
#pragma unroll
    for (int i = 0; i < TILES; ++i)
      for (int p = 0; p < PIECES; ++p) {
        const bool there = i * 8 + g < n && column + 8 * p < K;
        pieces[i][p] = there ? *(const uint4*)(x + (i64)(i * 8 + g) * K + column + 8 * p) : make_uint4(0, 0, 0, 0);
      }
#pragma unroll
    for (int step = 0; step < F::GROUP / 4; ++step)
#pragma unroll
      for (int b = 0; b < BLOCKS; ++b) {
        u32 a[4];
        weights[b].fragment(step, a);
#pragma unroll
        for (int i = 0; i < TILES; ++i) {
          const u32* piece = &pieces[i][step / 2].x + step % 2 * 2;
          multiply_add(sums[b][i], a, piece[0], piece[1]);
        }
      }
  }
  __shared__ float4 parts[RANGES][BLOCKS * TILES][WARP];
#pragma unroll
  for (int i = 0; i < BLOCKS * TILES; ++i) parts[warp][i][lane] = *(const float4*)sums[i / TILES][i % TILES];
  __syncthreads();
  for (int i = threadIdx.x; i < BLOCKS * TILES * 128; i += THREADS) {
    // 8 threads with consecutive rows share a token, so that they write side by side
    const int r = i % 16, c = i / 16 % 8, tile = i / 128 % TILES, b = i / 128 / TILES, token = tile * 8 + c;
    const int from = r % 8 * 4 + c / 2, which = r / 8 * 2 + c % 2;
    float total = 0;
    for (int k = 0; k < RANGES; ++k) total += ((const float*)&parts[k][b * TILES + tile][from])[which];
    if (token < n && row_block + b < row_blocks) y[(i64)token * N + (row_block + b) * 16 + r] = total;
  }
}

// Many tokens: a block has 128 rows and 128 tokens, a warp 32 by 64; tokens pass through shared memory, weights do not.
template <class F>
struct Product {
  static constexpr int ROWS = 128, TOKENS = 128, PIECES = F::GROUP / 8, SLOTS = 4 * PIECES;
  static constexpr int FLIP = SLOTS % 8 == 0 ? 4 : 0;  // lanes of two tokens would else meet in the same banks
  static constexpr int STAGE_BYTES = TOKENS * SLOTS * 16;

  static __device__ __forceinline__ int slot(int token, int t, int piece) {
    return token * SLOTS + ((piece * 4 + t) ^ (token % 2 * FLIP));
  }
  static __device__ __forceinline__ void fetch(u32 stage, const u16* x, int first, int n, int chunk, int K) {
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

template <class F>
DEVICE void matmul(const uint4* codes, const u32* scales, const u16* x, float* y, int n, int N, int K) {
  using P = Product<F>;
  extern __shared__ uint4 stages[];
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
  const int chunks = (K + 4 * F::GROUP - 1) / (4 * F::GROUP), length = (chunks + RANGES - 1) / RANGES;
  const int first_token = blockIdx.y * P::TOKENS, tokens = warp / 4 * 64;
  const int row_block = blockIdx.x * 8 + warp % 4 * 2, row_blocks = N / 16;
  float sums[2][8][4] = {}, total[2][8][4] = {};
  Block<F> next[2];
  if (F::LOADS == 1)  // others have no registers left for it
#pragma unroll
    for (int b = 0; b < 2; ++b) next[b].load(codes, scales, (i64)min(row_block + b, row_blocks - 1) * chunks);
  after_previous();
  P::fetch(shared_address(stages), x, first_token, n, 0, K);
  commit_copies();
  for (int chunk = 0; chunk < chunks; ++chunk) {
    Block<F> weights[2];
#pragma unroll
    for (int b = 0; b < 2; ++b) {
      const i64 block = (i64)min(row_block + b, row_blocks - 1) * chunks;
      if (F::LOADS == 1) {
        weights[b] = next[b];
        next[b].load(codes, scales, block + min(chunk + 1, chunks - 1));
      } else {
        weights[b].load(codes, scales, block + chunk);
      }
    }
    const uint4* stage = stages + chunk % 2 * (P::STAGE_BYTES / 16);
    if (chunk + 1 < chunks)
      P::fetch(shared_address(stages) + (chunk + 1) % 2 * P::STAGE_BYTES, x, first_token, n, chunk + 1, K);
    commit_copies();
    wait_for_copies<1>();
    __syncthreads();
    if (chunk > 0 && chunk % length == 0) P::join(&total[0][0][0], &sums[0][0][0]);
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
    const int b = i / 32, tile = i / 4 % 8, which = i % 4;
    const int token = first_token + tokens + tile * 8 + 2 * t + which % 2, row = (row_block + b) * 16 + g + which / 2 * 8;
    if (token < n && row < N) y[(i64)token * N + row] = total[b][tile][which];
  }
}
