// Candidates for the product of many tokens on an H100 (source/linear.cuh has the one in use, and what is said there holds:
// the same bits). One warpgroup fills a ring of stages in shared memory with the tokens' numbers, two others read weights
// and multiply; nobody waits for all. A block takes one tile of 128 rows by 128 tokens after another.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL

constexpr int WARPGROUP = 4 * WARP, MULTIPLIERS = 2, SPECIALISTS = WARPGROUP * (1 + MULTIPLIERS);

// Stages that go round: of each one a barrier that it is full, and one that it is empty.
template <class F, int DEPTH>
struct Ring {
  static constexpr int STAGE_BYTES = F::GROUP / 2 * TOKENS * 16, BARRIERS = DEPTH * STAGE_BYTES;
  static constexpr int BYTES = BARRIERS + DEPTH * 16;
  u32 start, stage = 0, round = 0;

  __device__ __forceinline__ Ring(const uint4* stages) : start(shared_address(stages)) {}
  __device__ __forceinline__ void make(int arrivals) const {
    for (int i = 0; i < DEPTH; ++i) {
      make_barrier(start + BARRIERS + i * 16, arrivals);
      make_barrier(start + BARRIERS + i * 16 + 8, MULTIPLIERS * 4);
    }
    publish_barriers();
  }
  __device__ __forceinline__ u32 address() const { return start + stage * STAGE_BYTES; }
  __device__ __forceinline__ u32 full() const { return start + BARRIERS + stage * 16; }
  __device__ __forceinline__ u32 empty() const { return full() + 8; }
  __device__ __forceinline__ void wait_full() const { wait_at(full(), round); }
  __device__ __forceinline__ void wait_empty() const { wait_at(empty(), round ^ 1); }
  __device__ __forceinline__ void advance() {
    if (++stage == DEPTH) stage = 0, round ^= 1;
  }
};

// The tiles of a product, in an order as that of `Place`.
template <int N, int BLOCKS>
struct Square {
  static constexpr int WIDTH = (N + 128 * BLOCKS - 1) / (128 * BLOCKS);
  int rows, tokens;
  __device__ __forceinline__ Square(int id, int height) {
    const int group = id / (8 * WIDTH), among = min(8, height - group * 8), at = id - group * 8 * WIDTH;
    rows = at / among, tokens = group * 8 + at % among;
  }
};

// Each warp of the first warpgroup takes a quarter of the tokens through its registers, AT_ONCE of its pieces at a time.
template <class F, int K, int AT_ONCE_>
struct Passed {
  static constexpr int ARRIVALS = 4, AT_ONCE = AT_ONCE_, PIECES = F::GROUP / 8;
  static constexpr int REGISTERS = AT_ONCE == 4 ? 88 : AT_ONCE == 3 ? 72 : 56, OTHERS = 252 - REGISTERS / 2;

  template <class R>
  static __device__ __forceinline__ void fill(R& ring, uint4* stages, const u16* x, int tile, int n, int chunk) {
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    uint4* stage = stages + ring.stage * (R::STAGE_BYTES / 16);
#pragma unroll
    for (int base = 0; base < PIECES; base += AT_ONCE) {
      uint4 of[AT_ONCE][4];
#pragma unroll
      for (int k = 0; k < AT_ONCE; ++k)
        for (int t = 0; t < 4; ++t) {
          if (base + k >= PIECES) continue;
          const int i = (base + k) * WARP + lane, token = warp * 32 + i / (8 * PIECES) * 8 + i % 8;
          const u16* row = x + (i64)min(tile * TOKENS + token, n - 1) * K;
          of[k][t] = Columns<F, K>::load(row, (chunk * 4 + t) * F::GROUP, i / 8 % PIECES);
        }
      if (base == 0) ring.wait_empty();
#pragma unroll
      for (int k = 0; k < AT_ONCE; ++k) {
        if (base + k >= PIECES) continue;
        const int i = (base + k) * WARP + lane, token = warp * 32 + i / (8 * PIECES) * 8 + i % 8;
        uint4* to = stage + 4 * (i / 8 % PIECES) * TOKENS + token;
        to[0] = make_uint4(of[k][0].x, of[k][1].x, of[k][2].x, of[k][3].x);
        to[TOKENS] = make_uint4(of[k][0].y, of[k][1].y, of[k][2].y, of[k][3].y);
        to[2 * TOKENS] = make_uint4(of[k][0].z, of[k][1].z, of[k][2].z, of[k][3].z);
        to[3 * TOKENS] = make_uint4(of[k][0].w, of[k][1].w, of[k][2].w, of[k][3].w);
      }
    }
    publish();
    __syncwarp();
    if (lane == 0) arrive(ring.full());
  }
};

// The tokens' numbers lie in memory as in a stage, by `arrange`: one thread asks for copies.
template <class F, int K>
struct Arranged {
  static constexpr int ARRIVALS = 1, REGISTERS = 24, OTHERS = 240;

  template <class R>
  static __device__ __forceinline__ void fill(R& ring, uint4*, const u16* x, int tile, int, int chunk) {
    if (threadIdx.x != 0) return;
    ring.wait_empty();
    arrive_and_expect(ring.full(), R::STAGE_BYTES);
    const char* from = (const char*)x + ((i64)tile * Columns<F, K>::CHUNKS + chunk) * R::STAGE_BYTES;
    copy_bulk(ring.address(), from, R::STAGE_BYTES, ring.full());
  }
};
// A block for each chunk of 128 tokens.
template <class F, int K>
DEVICE void arrange(const u16* x, uint4* to, int n) {
  after_previous();
  Tokens<F, K> taken;
  taken.load(x, blockIdx.y * TOKENS, n, blockIdx.x);
  taken.put(to + ((i64)blockIdx.y * Columns<F, K>::CHUNKS + blockIdx.x) * Tokens<F, K>::STAGE);
}

// No numbers at all: what is left is the time of weights and products.
struct Nothing {
  static constexpr int ARRIVALS = 1, REGISTERS = 24, OTHERS = 240;

  template <class R>
  static __device__ __forceinline__ void fill(R& ring, uint4*, const u16*, int, int, int) {
    if (threadIdx.x == 0) ring.wait_empty(), arrive(ring.full());
  }
};

// The weights of a lane, chunk after chunk and tile after tile. Of gates and what they let through a warp has 8 rows each,
// so that a lane has both of an output: they stand for the rows g and g + 8.
template <class F, class End, int N, int K, int BLOCKS>
struct Weights {
  static constexpr int PARTS = End::PARTS, ROW_BLOCKS = N / 16 / PARTS, CHUNKS = Columns<F, K>::CHUNKS;
  static constexpr int PLACES = PARTS == 1 ? BLOCKS : PARTS;
  const uint4* codes;
  const u32* scales;
  const uint4* code[PLACES];
  const u32* scale[PLACES];
  int tile, tiles, height, chunk = 0;

  static __device__ __forceinline__ int unit(int b) { return (threadIdx.x / WARP - 4) * BLOCKS + b; }
  // The block of 16 rows that a warp's block b takes part in, of a tile.
  static __device__ __forceinline__ int own(int rows, int b) {
    return PARTS == 1 ? rows * 8 * BLOCKS + unit(b) : rows * 4 * BLOCKS + unit(b) / 2;
  }
  static __device__ __forceinline__ int half(int i, int b) { return PARTS == 1 ? i : unit(b) % 2; }

  __device__ __forceinline__ Weights(const uint4* codes, const u32* scales, int tiles, int height)
      : codes(codes), scales(scales), tile(blockIdx.x), tiles(tiles), height(height) { find(); }
  __device__ __forceinline__ void find() {
    const int rows = Square<N, BLOCKS>(min(tile, tiles - 1), height).rows;
#pragma unroll
    for (int i = 0; i < PLACES; ++i) {
      const int block = min(own(rows, PARTS == 1 ? i : 0), ROW_BLOCKS - 1) + (PARTS == 1 ? 0 : i * ROW_BLOCKS);
      const Packed<F> packed(codes, scales, (i64)block * CHUNKS);
      code[i] = packed.codes, scale[i] = packed.scales;
    }
  }
  __device__ __forceinline__ void advance() {
#pragma unroll
    for (int i = 0; i < PLACES; ++i) code[i] += 2 * F::LOADS * WARP, scale[i] += (1 + F::MINIMUM) * WARP;
    if (++chunk == CHUNKS) chunk = 0, tile += gridDim.x, find();
  }
  __device__ __forceinline__ uint4 words(int load, int i, int b) const {
    return constants(code[PARTS == 1 ? b : i] + (2 * load + half(i, b)) * WARP);
  }
};

// What was asked for of a chunk, and what becomes of it when it is there.
template <class F, class W>
struct Asked {
  uint4 words[F::LOADS][2];
  u32 scale[W::PARTS], minimum[W::PARTS];

  __device__ __forceinline__ void load(const W& from, int b) {
#pragma unroll
    for (int i = 0; i < 2 * F::LOADS; ++i) words[i / 2][i % 2] = from.words(i / 2, i % 2, b);
#pragma unroll
    for (int i = 0; i < W::PARTS; ++i) {
      const u32* at = from.scale[W::PARTS == 1 ? b : i];
      if (F::SCALED) scale[i] = constants(at);
      if (F::MINIMUM) minimum[i] = constants(at + WARP);
    }
  }
  static __device__ __forceinline__ u32 both(const u32* of, int b) {
    return W::PARTS == 1 ? of[0] : __byte_perm(of[0], of[W::PARTS - 1], W::half(0, b) ? 0x7632 : 0x5410);
  }
  __device__ __forceinline__ Block<F> block(int b) const {
    Block<F> found;
#pragma unroll
    for (int i = 0; i < 2 * F::LOADS; ++i) found.words[i / 2][i % 2] = words[i / 2][i % 2];
    if (F::SCALED) found.scale = both(scale, b);
    if (F::MINIMUM) found.minimum = both(minimum, b);
    return found;
  }
};

// The fragments of half a chunk are made while tensor cores multiply the half before.
template <class F, class End, int N, int K, class Source, int DEPTH>
DEVICE void specialised(const uint4* codes, const u32* scales, const u16* x, typename End::Out* y, int n) {
  using C = Columns<F, K>;
  constexpr int HALF = F::GROUP / 8, BLOCKS = 1;
  using W = Weights<F, End, N, K, BLOCKS>;
  extern __shared__ uint4 stages[];
  Ring<F, DEPTH> ring(stages);
  const int height = (n + TOKENS - 1) / TOKENS, tiles = Square<N, BLOCKS>::WIDTH * height;
  if (threadIdx.x == 0) ring.make(Source::ARRIVALS);
  __syncthreads();
  if (threadIdx.x < WARPGROUP) {
    leave_registers<Source::REGISTERS>();
    after_previous();
#pragma unroll 1
    for (int id = blockIdx.x; id < tiles; id += gridDim.x) {
      const Square<N, BLOCKS> tile(id, height);
#pragma unroll 1
      for (int chunk = 0; chunk < C::CHUNKS; ++chunk) Source::fill(ring, stages, x, tile.tokens, n, chunk), ring.advance();
    }
  } else {
    take_registers<Source::OTHERS>();
    const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
    const u32 nothing = (u32)n >> 31;  // which the compiler does not know
    W from(codes, scales, tiles, height);
    Block<F> weights;
    Asked<F, W> next;
    const auto ask_half = [&](int half) {  // there are no registers left for more
#pragma unroll
      for (int i = 0; i < F::LOADS; ++i) weights.words[half * F::LOADS / 2 + i / 2][i % 2] = from.words(half * 2 + i / 2, i % 2, 0);
      if (half == 1) from.advance();
    };
    if (F::LOADS == 4) {
      ask_half(0), ask_half(1);
    } else {
      next.load(from, 0), from.advance();
      weights = next.block(0), next.load(from, 0), from.advance();
    }
    after_previous();
    float sums[16][4], total[16][4];
    u32 first[HALF][4], second[HALF][4];
    int adds = 0;
    const auto multiply = [&](u32 (&a)[HALF][4], int half) {
#pragma unroll
      for (int s = 0; s < HALF; ++s) weights.fragment(half * HALF + s, a[s]);
#pragma unroll
      for (int i = 0; i < 4 * HALF; ++i) {
        if (F::LOADS == 4) a[i / 4][i % 4] |= nothing;  // a copy: the next ones come into what it was
        settle(a[i / 4][i % 4]);
      }
      warpgroup_fence();
#pragma unroll
      for (int s = 0; s < HALF; ++s)
        multiply_add_64(sums, a[s], Tokens<F, K>::place(ring.address(), half * HALF + s), adds), adds = 1;
      commit_products();
    };
    const auto release = [&](u32 empty) {
      if (lane == 0) arrive(empty);
    };
#pragma unroll 1
    for (int id = blockIdx.x; id < tiles; id += gridDim.x) {
      const Square<N, BLOCKS> tile(id, height);
#pragma unroll
      for (int i = 0; i < 64; ++i) total[i / 4][i % 4] = 0;
#pragma unroll 1
      for (int base = 0; base < C::CHUNKS; base += C::LENGTH) {
        u32 last = 0;  // stage that is still read
        adds = 0;
#pragma unroll 1
        for (int chunk = base; chunk < min(base + C::LENGTH, C::CHUNKS); ++chunk) {
          ring.wait_full();
          multiply(first, 0);
          if (F::LOADS == 4) ask_half(0);
          wait_for_products<1>();
          if (chunk > base) release(last);
          multiply(second, 1);
          if (F::LOADS == 4)
            ask_half(1);
          else
            weights = next.block(0), next.load(from, 0), from.advance();
          last = ring.empty();
          ring.advance();
          wait_for_products<1>();
        }
        wait_for_products<0>();
        release(last);
#pragma unroll
        for (int i = 0; i < 64; ++i) total[i / 4][i % 4] += sums[i / 4][i % 4];
      }
      const int own = W::own(tile.rows, 0);
#pragma unroll
      for (int i = 0; i < 64; ++i) {
        const int token = tile.tokens * TOKENS + i / 4 * 8 + 2 * t + i % 2, lower = i % 4 / 2;
        const int row = own * 16 + g + 8 * W::half(lower, 0);
        if (token >= n || own >= W::ROW_BLOCKS || lower >= 3 - End::PARTS) continue;
        const float both[2] = {total[i / 4][i % 4], total[i / 4][i % 2 + 2]};
        store(y, (i64)token * (N / End::PARTS) + row, End::of(both));
      }
    }
  }
}

// The same with 256 rows in a tile, for half the traffic of the tokens' numbers: a warp has two blocks of rows, whose
// fragments are made for a quarter of a chunk at a time, and ranges are joined in shared memory. For weights of 4 bits.
template <class F, class End, int N, int K, class Source, int DEPTH>
DEVICE void wide(const uint4* codes, const u32* scales, const u16* x, typename End::Out* y, int n) {
  using C = Columns<F, K>;
  constexpr int BLOCKS = 2, BATCHES = F::GROUP / 8, OTHERS = MULTIPLIERS * WARPGROUP;
  using W = Weights<F, End, N, K, BLOCKS>;
  extern __shared__ uint4 stages[];
  Ring<F, DEPTH> ring(stages);
  const int height = (n + TOKENS - 1) / TOKENS, tiles = Square<N, BLOCKS>::WIDTH * height;
  if (threadIdx.x == 0) ring.make(Source::ARRIVALS);
  __syncthreads();
  if (threadIdx.x < WARPGROUP) {
    leave_registers<Source::REGISTERS>();
    after_previous();
#pragma unroll 1
    for (int id = blockIdx.x; id < tiles; id += gridDim.x) {
      const Square<N, BLOCKS> tile(id, height);
#pragma unroll 1
      for (int chunk = 0; chunk < C::CHUNKS; ++chunk) Source::fill(ring, stages, x, tile.tokens, n, chunk), ring.advance();
    }
  } else {
    take_registers<Source::OTHERS>();
    const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
    float4* total = (float4*)(stages + ring.BYTES / 16) + threadIdx.x - WARPGROUP;
    W from(codes, scales, tiles, height);
    Block<F> weights[BLOCKS];
    Asked<F, W> next[BLOCKS];
    const auto ask = [&](bool first) {
#pragma unroll
      for (int b = 0; b < BLOCKS; ++b) {
        if (!first) weights[b] = next[b].block(b);
        next[b].load(from, b);
      }
      from.advance();
    };
    ask(true), ask(false);
    after_previous();
    float sums[BLOCKS][16][4];
    u32 a[2][2][BLOCKS][4];
    int adds = 0;
    const auto multiply = [&](int batch) {
      u32 (&of)[2][BLOCKS][4] = a[batch % 2];
#pragma unroll
      for (int i = 0; i < 2 * BLOCKS; ++i) weights[i % BLOCKS].fragment(batch * 2 + i / BLOCKS, of[i / BLOCKS][i % BLOCKS]);
#pragma unroll
      for (int i = 0; i < 8 * BLOCKS; ++i) settle(of[i / 4 / BLOCKS][i / 4 % BLOCKS][i % 4]);
      warpgroup_fence();
#pragma unroll
      for (int s = 0; s < 2; ++s) {
        for (int b = 0; b < BLOCKS; ++b)
          multiply_add_64(sums[b], of[s][b], Tokens<F, K>::place(ring.address(), batch * 2 + s), adds);
        adds = 1;
      }
      commit_products();
    };
    const auto release = [&](u32 empty) {
      if (lane == 0) arrive(empty);
    };
#pragma unroll 1
    for (int id = blockIdx.x; id < tiles; id += gridDim.x) {
      const Square<N, BLOCKS> tile(id, height);
#pragma unroll 1
      for (int base = 0; base < C::CHUNKS; base += C::LENGTH) {
        u32 last = 0;  // stage that is still read
        adds = 0;
#pragma unroll 1
        for (int chunk = base; chunk < min(base + C::LENGTH, C::CHUNKS); ++chunk) {
          ring.wait_full();
          if (BATCHES % 2) wait_for_products<0>();
#pragma unroll
          for (int batch = 0; batch < BATCHES; ++batch) {
            multiply(batch);
            if (batch == BATCHES - 1) ask(false);
            wait_for_products<1>();
            if (batch == 0 && chunk > base) release(last);
          }
          last = ring.empty();
          ring.advance();
        }
        wait_for_products<0>();
        release(last);
#pragma unroll
        for (int i = 0; i < 16 * BLOCKS; ++i) {
          float* sum = sums[i / 16][i % 16];
          const float4 before = base > 0 ? total[i * OTHERS] : make_float4(0, 0, 0, 0);
          sum[0] += before.x, sum[1] += before.y, sum[2] += before.z, sum[3] += before.w;
          if (base + C::LENGTH < C::CHUNKS) total[i * OTHERS] = make_float4(sum[0], sum[1], sum[2], sum[3]);
        }
      }
#pragma unroll
      for (int i = 0; i < 64 * BLOCKS; ++i) {
        const int b = i / 64, token = tile.tokens * TOKENS + i / 4 % 16 * 8 + 2 * t + i % 2, lower = i % 4 / 2;
        const int own = W::own(tile.rows, b), row = own * 16 + g + 8 * W::half(lower, b);
        if (token >= n || own >= W::ROW_BLOCKS || lower >= 3 - End::PARTS) continue;
        const float both[2] = {sums[b][i / 4 % 16][i % 4], sums[b][i / 4 % 16][i % 2 + 2]};
        store(y, (i64)token * (N / End::PARTS) + row, End::of(both));
      }
    }
  }
}
#endif
