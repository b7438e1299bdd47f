// y = x W^T of many tokens on an H100. The first of three warpgroups fills a ring of stages in shared memory with the
// tokens' numbers, the two others read weights and multiply; nobody waits for all. A block takes one tile after another,
// of 128 tokens by 128 BLOCKS rows.
//
// Tensor cores read 8 columns of all tokens, which are not neighbours, as they lie side by side in a stage; `arrange`
// brings the numbers into that order before, so that one copy fills a stage.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL

constexpr int WARPGROUP = 4 * WARP, MULTIPLIERS = 2;

template <class F, int K>
struct Stage {
  static constexpr int PIECES = F::GROUP / 8, LENGTH = F::GROUP / 2 * TOKENS, BYTES = LENGTH * 16;

  // Where tensor cores find a step's 16 columns.
  static __device__ __forceinline__ unsigned long long columns(u32 stage, int step) {
    const u32 address = stage + 2 * step * TOKENS * 16;
    return (unsigned long long)((address & 0x3ffff) >> 4) | (unsigned long long)TOKENS << 16 | (unsigned long long)8 << 32;
  }
};

// A block of THREADS has a chunk of 128 tokens; where there are fewer the last one stands for those that are not there.
template <class F, int K>
DEVICE void arrange(const u16* x, uint4* to, int n) {
  using S = Stage<F, K>;
  uint4* stage = to + ((i64)blockIdx.y * Columns<F, K>::CHUNKS + blockIdx.x) * S::LENGTH;
  after_previous();
#pragma unroll
  for (int i = threadIdx.x; i < TOKENS * S::PIECES; i += THREADS) {
    const int token = i / (8 * S::PIECES) * 8 + i % 8, piece = i / 8 % S::PIECES;
    const u16* row = x + (i64)min((int)blockIdx.y * TOKENS + token, n - 1) * K;
    uint4 of[4];
    for (int t = 0; t < 4; ++t) of[t] = Columns<F, K>::load(row, (blockIdx.x * 4 + t) * F::GROUP, piece);
    uint4* at = stage + 4 * piece * TOKENS + token;
    at[0] = make_uint4(of[0].x, of[1].x, of[2].x, of[3].x);
    at[TOKENS] = make_uint4(of[0].y, of[1].y, of[2].y, of[3].y);
    at[2 * TOKENS] = make_uint4(of[0].z, of[1].z, of[2].z, of[3].z);
    at[3 * TOKENS] = make_uint4(of[0].w, of[1].w, of[2].w, of[3].w);
  }
}

// Stages that go round: of each one a barrier that it is full, and one that it is empty.
template <class S, int DEPTH>
struct Ring {
  static constexpr int BARRIERS = DEPTH * S::BYTES, BYTES = BARRIERS + DEPTH * 16;
  u32 start, stage = 0, round = 0;

  __device__ __forceinline__ Ring(const uint4* stages) : start(shared_address(stages)) {
    if (threadIdx.x != 0) return;
    for (int i = 0; i < DEPTH; ++i) {
      make_barrier(start + BARRIERS + i * 16, 1);
      make_barrier(start + BARRIERS + i * 16 + 8, MULTIPLIERS * 4);
    }
    publish_barriers();
  }
  __device__ __forceinline__ u32 address() const { return start + stage * S::BYTES; }
  __device__ __forceinline__ u32 full() const { return start + BARRIERS + stage * 16; }
  __device__ __forceinline__ u32 empty() const { return full() + 8; }
  __device__ __forceinline__ void advance() {
    if (++stage == DEPTH) stage = 0, round ^= 1;
  }
  __device__ __forceinline__ void fill(const uint4* from) {
    wait_at(empty(), round ^ 1);
    arrive_and_expect(full(), S::BYTES);
    copy_bulk(address(), from, S::BYTES, full());
    advance();
  }
};

// The tiles of a product of n tokens: those that run side by side have few tokens and few rows between them.
template <class F, int N, int K, int BLOCKS>
struct Tiles {
  static constexpr int WIDTH = (N + 128 * BLOCKS - 1) / (128 * BLOCKS), CHUNKS = Columns<F, K>::CHUNKS;
  int height, count;

  __device__ __forceinline__ Tiles(int n) : height((n + TOKENS - 1) / TOKENS), count(WIDTH * height) {}
  __device__ __forceinline__ Place place(int id) const { return Place(id, WIDTH, height); }

  // What one thread of the first warpgroup does.
  template <class R>
  __device__ __forceinline__ void load(R& ring, const uint4* x) const {
    constexpr int LENGTH = Stage<F, K>::LENGTH;
#pragma unroll 1
    for (int id = blockIdx.x; id < count; id += gridDim.x) {
      const uint4* from = x + (i64)place(id).tokens * CHUNKS * LENGTH;
#pragma unroll 1
      for (int chunk = 0; chunk < CHUNKS; ++chunk) ring.fill(from + chunk * LENGTH);
    }
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
  Tiles<F, N, K, BLOCKS> tiles;
  const uint4* code[PLACES];
  const u32* scale[PLACES];
  int tile = blockIdx.x, chunk = 0;

  static __device__ __forceinline__ int unit(int b) { return (threadIdx.x / WARP - 4) * BLOCKS + b; }
  // The block of 16 rows that a warp's block b takes part in, of a tile.
  static __device__ __forceinline__ int own(int rows, int b) {
    return PARTS == 1 ? rows * 8 * BLOCKS + unit(b) : rows * 4 * BLOCKS + unit(b) / 2;
  }
  static __device__ __forceinline__ int half(int i, int b) { return PARTS == 1 ? i : unit(b) % 2; }

  __device__ __forceinline__ Weights(const uint4* codes, const u32* scales, Tiles<F, N, K, BLOCKS> tiles)
      : codes(codes), scales(scales), tiles(tiles) { find(); }
  __device__ __forceinline__ void find() {
    const int rows = tiles.place(min(tile, tiles.count - 1)).rows;
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

// A lane's sums of a warp's block b, written where they belong.
template <class End, class W, int N>
DEVICE void store_tile(float (*sums)[4], Place tile, int b, typename End::Out* y, int n) {
  const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4, own = W::own(tile.rows, b);
#pragma unroll
  for (int i = 0; i < 64; ++i) {
    const int token = tile.tokens * TOKENS + i / 4 * 8 + 2 * t + i % 2, lower = i % 4 / 2;
    const int row = own * 16 + g + 8 * W::half(lower, b);
    if (token >= n || own >= W::ROW_BLOCKS || lower >= 3 - End::PARTS) continue;
    const float both[2] = {sums[i / 4][i % 4], sums[i / 4][i % 2 + 2]};
    store(y, (i64)token * (N / End::PARTS) + row, End::of(both));
  }
}
DEVICE void release(u32 empty) {
  if (threadIdx.x % WARP == 0) arrive(empty);
}

// Tiles of 128 rows. The fragments of half a chunk are made while tensor cores multiply the half before.
template <class F, class End, int N, int K, int DEPTH>
DEVICE void multiply_narrow(const uint4* codes, const u32* scales, const uint4* x, typename End::Out* y, int n) {
  using S = Stage<F, K>;
  using C = Columns<F, K>;
  using W = Weights<F, End, N, K, 1>;
  constexpr int HALF = F::GROUP / 8;
  extern __shared__ uint4 stages[];
  Ring<S, DEPTH> ring(stages);
  const Tiles<F, N, K, 1> tiles(n);
  __syncthreads();
  if (threadIdx.x < WARPGROUP) {
    leave_registers<24>();
    after_previous();
    if (threadIdx.x == 0) tiles.load(ring, x);
  } else {
    take_registers<240>();
    const u32 nothing = (u32)n >> 31;  // which the compiler does not know
    W from(codes, scales, tiles);
    Block<F> weights;
    Asked<F, W> next;
    const auto ask_half = [&](int half) {  // there are no registers left for more
#pragma unroll
      for (int i = 0; i < F::LOADS; ++i) weights.words[half * F::LOADS / 2 + i / 2][i % 2] = from.words(half * 2 + i / 2, i % 2, 0);
      if (half == 1) from.advance();
    };
    const auto ask = [&](bool first) {
      if (!first) weights = next.block(0);
      next.load(from, 0), from.advance();
    };
    if (F::LOADS == 4)
      ask_half(0), ask_half(1);
    else
      ask(true), ask(false);
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
      for (int s = 0; s < HALF; ++s) multiply_add_64(sums, a[s], S::columns(ring.address(), half * HALF + s), adds), adds = 1;
      commit_products();
    };
#pragma unroll 1
    for (int id = blockIdx.x; id < tiles.count; id += gridDim.x) {
#pragma unroll
      for (int i = 0; i < 64; ++i) total[i / 4][i % 4] = 0;
#pragma unroll 1
      for (int base = 0; base < C::CHUNKS; base += C::LENGTH) {
        u32 last = 0;  // stage that is still read
        adds = 0;
#pragma unroll 1
        for (int chunk = base; chunk < min(base + C::LENGTH, C::CHUNKS); ++chunk) {
          wait_at(ring.full(), ring.round);
          multiply(first, 0);
          if (F::LOADS == 4) ask_half(0);
          wait_for_products<1>();
          if (chunk > base) release(last);
          multiply(second, 1);
          if (F::LOADS == 4)
            ask_half(1);
          else
            ask(false);
          last = ring.empty();
          ring.advance();
          wait_for_products<1>();
        }
        wait_for_products<0>();
        release(last);
#pragma unroll
        for (int i = 0; i < 64; ++i) total[i / 4][i % 4] += sums[i / 4][i % 4];
      }
      store_tile<End, W, N>(total, tiles.place(id), 0, y, n);
    }
  }
}

// Tiles of 256 rows, for half the traffic of the tokens' numbers: a warp has two blocks of rows, whose fragments are made
// for a quarter of a chunk at a time, and ranges are joined in shared memory. For weights of 4 bits at most.
template <class F, class End, int N, int K, int DEPTH>
DEVICE void multiply_wide(const uint4* codes, const u32* scales, const uint4* x, typename End::Out* y, int n) {
  using S = Stage<F, K>;
  using C = Columns<F, K>;
  constexpr int BLOCKS = 2, BATCHES = F::GROUP / 8, OTHERS = MULTIPLIERS * WARPGROUP;
  using W = Weights<F, End, N, K, BLOCKS>;
  extern __shared__ uint4 stages[];
  Ring<S, DEPTH> ring(stages);
  const Tiles<F, N, K, BLOCKS> tiles(n);
  __syncthreads();
  if (threadIdx.x < WARPGROUP) {
    leave_registers<24>();
    after_previous();
    if (threadIdx.x == 0) tiles.load(ring, x);
  } else {
    take_registers<240>();
    float4* total = (float4*)(stages + ring.BYTES / 16) + threadIdx.x - WARPGROUP;
    W from(codes, scales, tiles);
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
        for (int b = 0; b < BLOCKS; ++b) multiply_add_64(sums[b], of[s][b], S::columns(ring.address(), batch * 2 + s), adds);
        adds = 1;
      }
      commit_products();
    };
#pragma unroll 1
    for (int id = blockIdx.x; id < tiles.count; id += gridDim.x) {
#pragma unroll 1
      for (int base = 0; base < C::CHUNKS; base += C::LENGTH) {
        u32 last = 0;  // stage that is still read
        adds = 0;
#pragma unroll 1
        for (int chunk = base; chunk < min(base + C::LENGTH, C::CHUNKS); ++chunk) {
          wait_at(ring.full(), ring.round);
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
      for (int b = 0; b < BLOCKS; ++b) store_tile<End, W, N>(sums[b], tiles.place(id), b, y, n);
    }
  }
}
#endif
