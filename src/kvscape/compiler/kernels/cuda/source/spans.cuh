// Spans of keys and values in shared memory, and queries that are multiplied by them.

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

  const u8* pages[KEYS];  // of each token, none past the last
  int places[KEYS];       // of the tokens in their pages
  u32 scales[2][KEYS];    // what is beside keys and values

  // Scales and minima of a group in the dimensions of one piece.
  struct GroupScales {
    uint4 step, low;
  };

  template <class K, class V>
  __device__ __forceinline__ void load(const Pages<K, V>& from, int head, int first, int keys_there) {
    locate(from, first, keys_there);
    __syncthreads();
    finish<K, V>(ask(from, head, first, keys_there));
  }
  // Where the tokens from `first` on lie.
  template <class K, class V>
  __device__ __forceinline__ void locate(const Pages<K, V>& from, int first, int keys_there) {
    if (threadIdx.x >= KEYS) return;
    const int token = first + threadIdx.x;
    pages[threadIdx.x] = token < keys_there ? from.page(token) : nullptr;
    places[threadIdx.x] = token % from.page_size;
  }
  // Asks for the tokens that were located before; `finish` waits for them, and all threads for each other then.
  template <class K, class V>
  __device__ __forceinline__ GroupScales ask(const Pages<K, V>& from, int head, int first, int keys_there) {
    if constexpr (K::PLAIN || K::STAGED)
      copy<KEY_STRIDE, K::code_bytes(D) / 16>(keys, from.layer, [&](int r) { return from.key(head, places[r]); });
    if constexpr (V::PLAIN || V::STAGED)
      copy<VALUE_STRIDE, V::code_bytes(D) / 16>(values, from.layer, [&](int r) { return from.value(head, places[r]); });
    commit_copies();
    if constexpr (K::STAGED && !K::GROUPED && K::key_scale_bytes(D) > 0)
      note<K::key_scale_bytes(D)>(scales[0], [&](int r) { return from.key_scale(head, places[r]); });
    if constexpr (V::STAGED && V::value_scale_bytes() > 0)
      note<V::value_scale_bytes()>(scales[1], [&](int r) { return from.value_scale(head, places[r]); });
    GroupScales of_group = {};
    if constexpr (K::GROUPED) of_group = group_scales(from, head);
    if constexpr (!K::PLAIN && !K::STAGED)
      make<KEY_STRIDE>(keys, keys_there - first, [&](int r, int c) { return from.read_key(head, first + r, c); });
    if constexpr (!V::PLAIN && !V::STAGED)
      make<VALUE_STRIDE>(values, keys_there - first, [&](int r, int c) { return from.read_value(head, first + r, c); });
    return of_group;
  }
  template <class K, class V>
  __device__ __forceinline__ void finish(const GroupScales& of_group) {
    wait_for_copies<0>();
    if constexpr (K::GROUPED) expand_groups<K>(of_group);
    else if constexpr (K::STAGED) expand<K, KEY_STRIDE>(keys, scales[0]);
    if constexpr (V::STAGED) expand<V, VALUE_STRIDE>(values, scales[1]);
  }
  // COUNT pieces from the place of each row in its page to the row's end: all copies are under way at once.
  template <int STRIDE, int COUNT, class Place>
  __device__ __forceinline__ void copy(uint4* rows, const u8* anywhere, Place place) const {
#pragma unroll
    for (int j = 0; j < (KEYS * COUNT + 32 * WARPS - 1) / (32 * WARPS); ++j) {
      const int i = threadIdx.x + j * 32 * WARPS, r = i / COUNT, c = i % COUNT;
      if (i >= KEYS * COUNT) break;
      const u8* page = pages[r];
      uint4* to = rows + r * STRIDE + PIECES - COUNT + c;
      copy_async(shared_address(to), page ? page + place(r) + 16 * c : anywhere, page);
    }
  }
  template <int BYTES, class Place>
  __device__ __forceinline__ void note(u32* scales, Place place) const {
    const int r = threadIdx.x;
    if (r >= KEYS) return;
    const u8* at = pages[r] ? pages[r] + place(r) : nullptr;
    scales[r] = !at ? 0 : BYTES == 4 ? *(const u32*)at : *(const u16*)at;
  }
  // Numbers in the place of the codes at the rows' ends.
  template <class P, int STRIDE>
  __device__ __forceinline__ void expand(uint4* rows, const u32* scales) {
    constexpr int EACH = KEYS * PIECES / (32 * WARPS);
    uint4 numbers[EACH];
    __syncthreads();
#pragma unroll
    for (int j = 0; j < EACH; ++j) {
      const int i = threadIdx.x + j * 32 * WARPS, r = i / PIECES;
      const u8* codes = (const u8*)(rows + r * STRIDE + PIECES) - P::code_bytes(D);
      numbers[j] = P::read(codes, i % PIECES, (const u8*)(scales + r));
    }
    __syncthreads();
#pragma unroll
    for (int j = 0; j < EACH; ++j) {
      const int i = threadIdx.x + j * 32 * WARPS;
      rows[i / PIECES * STRIDE + i % PIECES] = numbers[j];
    }
  }
  // A thread has a piece of half a group's tokens. The minima of a group that is not complete are not there, and nobody
  // sees its keys.
  static constexpr int HALF = GROUP_TOKENS / 2;
  template <class K, class V>
  __device__ __forceinline__ GroupScales group_scales(const Pages<K, V>& from, int head) const {
    static_assert(KEYS / HALF * PIECES <= 32 * WARPS, "a thread for each piece of half a group");
    const int c = threadIdx.x % PIECES, r = threadIdx.x / PIECES / 2 * GROUP_TOKENS;
    GroupScales found = {make_uint4(0, 0, 0, 0), make_uint4(0, 0, 0, 0)};
    if (r >= KEYS || !pages[r] || !pages[r + HALF]) return found;
    found.step = ((const uint4*)(pages[r] + from.key_scale(head, places[r])))[c];
    found.low = ((const uint4*)(pages[r + HALF] + from.key_scale(head, places[r + HALF])))[c];
    return found;
  }
  template <class K>
  __device__ __forceinline__ void expand_groups(const GroupScales& scales) {
    const int c = threadIdx.x % PIECES, first = threadIdx.x / PIECES * HALF;
    uint4 numbers[HALF];
    __syncthreads();
    if (first < KEYS)
#pragma unroll
      for (int i = 0; i < HALF; ++i) {
        const u8* codes = (const u8*)(keys + (first + i) * KEY_STRIDE + PIECES) - K::code_bytes(D);
        numbers[i] = K::scaled(((const u32*)codes)[c], scales.step, scales.low);
      }
    __syncthreads();
    if (first < KEYS)
#pragma unroll
      for (int i = 0; i < HALF; ++i) keys[(first + i) * KEY_STRIDE + c] = numbers[i];
  }
  template <int STRIDE, class Read>
  __device__ __forceinline__ void make(uint4* rows, int there, Read read) {
#pragma unroll 8
    for (int i = threadIdx.x; i < KEYS * PIECES; i += 32 * WARPS) {
      const int r = i / PIECES, c = i % PIECES;
      rows[r * STRIDE + c] = r < there ? read(r, c) : make_uint4(0, 0, 0, 0);
    }
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
  // `keys` are the lane's pieces of one of 8 keys, those of the next tile are `stride` behind. A product waits for the last
  // one of its tile, so those of four tiles take turns.
  template <int TILES>
  __device__ __forceinline__ void multiply(const uint4* keys, int stride, float (*products)[4]) const {
    constexpr int TURN = TILES < 4 ? TILES : 4;
#pragma unroll
    for (int first = 0; first < TILES; first += TURN)
#pragma unroll
      for (int i = 0; i < D / 32; ++i) {
        uint4 key[TURN];
#pragma unroll
        for (int j = 0; j < TURN; ++j) key[j] = keys[(first + j) * stride + 4 * i];
        const u32 a[4] = {pieces[i][0][0], pieces[i][1][0], pieces[i][0][1], pieces[i][1][1]};
        const u32 b[4] = {pieces[i][0][2], pieces[i][1][2], pieces[i][0][3], pieces[i][1][3]};
#pragma unroll
        for (int j = 0; j < TURN; ++j) multiply_add(products[first + j], a, key[j].x, key[j].y);
#pragma unroll
        for (int j = 0; j < TURN; ++j) multiply_add(products[first + j], b, key[j].z, key[j].w);
      }
  }
};
