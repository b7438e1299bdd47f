// y = x W^T by tensor cores, W as the left operand: 16 rows of W by 8 tokens by 16 columns at a time, or 64 by 128 by 16
// (products.cuh).
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
// which DEPTH chunks are under way. Where there are fewer tokens the last one stands for those that are not there; where
// there are more, blocks behind each other take 8 TILES each.
template <class F, int TILES, int DEPTH, int BLOCKS, class End, int N, int K>
DEVICE void matvec(const uint4* codes, const u32* scales, const u16* x, typename End::Out* y, int n) {
  using C = Columns<F, K>;
  constexpr int PARTS = End::PARTS, OWN = PARTS * BLOCKS, ROW_BLOCKS = N / 16 / PARTS;
  constexpr bool EVEN = C::CHUNKS % RANGES == 0;
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  const int first_token = blockIdx.y * 8 * TILES;
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
  for (int i = 0; i < TILES; ++i) rows[i] = x + (i64)min(first_token + i * 8 + lane / 4, n - 1) * K;
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
    if (first_token + token >= n || own >= ROW_BLOCKS) continue;
    const int from = r % 8 * 4 + token % 8 / 2, which = r / 8 * 2 + token % 2;
    float totals[PARTS] = {};
#pragma unroll
    for (int j = 0; j < PARTS; ++j)
      for (int k = 0; k < RANGES; ++k)
        totals[j] += ((const float*)&parts[k][(b * PARTS + j) * TILES + token / 8][from])[which];
    store(y, (i64)(first_token + token) * (N / PARTS) + own * 16 + r, End::of(totals));
  }
}
