// Rotary positions, and the step's keys and values written to their pages.

DEVICE void rope_table(const int* positions, const float* frequency, float* table, int n, int half, float factor) {
  after_previous();
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n * half) return;
  // In f64: far past the training context an f32 angle would be off by a thousandth.
  const double angle = (double)positions[i / half] * (double)frequency[i % half];
  table[(i64)(i / half) * 2 * half + i % half] = (float)cos(angle) * factor;
  table[(i64)(i / half) * 2 * half + half + i % half] = (float)sin(angle) * factor;
}

DEVICE void rope_frequencies(const float* few, const float* many, const int* seen, float* frequency, int half, int length) {
  after_previous();
  if (threadIdx.x < half) frequency[threadIdx.x] = seen[0] > length ? many[threadIdx.x] : few[threadIdx.x];
}

DEVICE float turned(const float* x, const float* table, int d, int rotary) {
  const int half = rotary / 2;
  if (d >= rotary) return x[d];
  if (d < half) return fmaf(x[d], table[d], -(x[d + half] * table[d + half]));
  return fmaf(x[d - half], table[d], x[d] * table[d - half]);
}

// A Hadamard matrix of unit length times what the threads of a block have in x: SIZE numbers at a time.
template <int D, int SIZE>
DEVICE float hadamard(float* x, float value) {
  const int d = threadIdx.x;
  for (int width = 1; width < SIZE; width *= 2) {
    __syncthreads();
    if (d < D) x[d] = value;
    __syncthreads();
    if (d < D) value = d & width ? x[d - width] - value : value + x[d + width];
  }
  return value * rsqrtf((float)SIZE);
}

DEVICE float largest_of_block(float x) {
  __shared__ float parts[8];
  for (int i = 16; i > 0; i /= 2) x = fmaxf(x, __shfl_xor_sync(ALL, x, i));
  __syncthreads();  // the last call's parts have been read
  if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = x;
  __syncthreads();
  for (int i = 0; i < (int)blockDim.x / WARP; ++i) x = fmaxf(x, parts[i]);
  return x;
}

// The codes of one head's numbers, one of each thread.
DEVICE void keep(Floats, u8* codes, u8*, float x) { ((float*)codes)[threadIdx.x] = x; }
DEVICE void keep(Halves, u8* codes, u8*, float x) { ((u16*)codes)[threadIdx.x] = half_of(within_half(x)); }
DEVICE void keep(Fp8, u8* codes, u8*, float x) { codes[threadIdx.x] = Fp8::code(x); }
DEVICE void keep(Int8, u8* codes, u8* scale, float x) {
  const u16 step = half_of(largest_of_block(fabsf(x)) / 127.0f);
  const float ratio = float_of(step) > 0 ? x / float_of(step) : 0.0f;
  codes[threadIdx.x] = (u8)(signed char)fminf(fmaxf(rintf(ratio), -127.0f), 127.0f);
  if (threadIdx.x == 0) *(u16*)scale = step;
}

DEVICE u16 int4_step(float high, u16 minimum) { return half_of((high - float_of(minimum)) / 15.0f); }
DEVICE u32 int4_code(float x, u16 step, u16 minimum) {
  const float ratio = float_of(step) > 0 ? (x - float_of(minimum)) / float_of(step) : 0.0f;
  return (u32)fminf(fmaxf(rintf(ratio), 0.0f), 15.0f);
}
// 8 neighbouring threads have the codes of a word.
DEVICE void keep_nibble(u8* codes, u32 code) {
  u32 word = code << (threadIdx.x % 8 / 2 * 4 + threadIdx.x % 2 * 16);
  for (int i = 1; i < 8; i *= 2) word |= __shfl_xor_sync(ALL, word, i);
  if (threadIdx.x % 8 == 0) ((u32*)codes)[threadIdx.x / 8] = word;
}
DEVICE void keep(Int4, u8* codes, u8* scale, float x) {
  const u16 minimum = half_of(-largest_of_block(-x)), step = int4_step(largest_of_block(x), minimum);
  keep_nibble(codes, int4_code(x, step, minimum));
  if (threadIdx.x == 0) ((u16*)scale)[0] = step, ((u16*)scale)[1] = minimum;
}

// How a thread's dimension of a token is rotated.
struct Turn {
  int other;
  bool turns, lower;
  float cosine = 1, sine = 0;

  __device__ __forceinline__ Turn(const float* table, int d, int rotary) {
    const int half = rotary / 2;
    turns = d < rotary, lower = d < half, other = turns ? lower ? d + half : d - half : d;
    if (turns) cosine = table[min(d, other)], sine = table[max(d, other)];
  }
  __device__ __forceinline__ float of(float x, float other) const {
    return !turns ? x : lower ? fmaf(x, cosine, -(other * sine)) : fmaf(other, sine, x * cosine);
  }
  __device__ __forceinline__ bool differs(const Turn& from) const { return cosine != from.cosine || sine != from.sine; }
};

// A block has EACH heads of one token, queries, then keys, then values; a thread one dimension. Of many tokens those that
// are rotated among the sinks as everywhere are not written a second time: attention does not read that.
template <class K, class V, int D, int SIZE, int EACH>
DEVICE void rope_append(const float* qkv, const float* table, const float* sink_table, const int* slots, u8* pool,
                        float* q, float* sink_q, int q_heads, int heads, int rotary, int page_size, i64 page_bytes) {
  after_previous();
  __shared__ float scratch[D];
  const int first = blockIdx.y * EACH, width = q_heads + 2 * heads, d = threadIdx.x;
  const i64 i = blockIdx.x;
  const float* x = qkv + (i * width + first) * D;
  const Turn turn(table + i * rotary, d, rotary), among_sinks(sink_table + i * rotary, d, rotary);
  float own[EACH], other[EACH];  // all of them are asked for before the first is written
#pragma unroll
  for (int e = 0; e < EACH; ++e)
    if (first + e < width) own[e] = x[e * D + d], other[e] = x[e * D + turn.other];
  const bool twice = EACH == 1 || __syncthreads_or(turn.differs(among_sinks));
  const Pages<K, V> pages = {nullptr, nullptr, page_bytes, page_size, heads, D};
  u8* start = pool + slots[i] / page_size * page_bytes;
  const int offset = slots[i] % page_size;
#pragma unroll
  for (int e = 0; e < EACH; ++e) {
    const int h = first + e, head = (h - q_heads) % heads;
    if (h >= width) break;
    float value = turn.of(own[e], other[e]);
    if (h < q_heads) {
      const i64 at = (i * q_heads + h) * D + d;
      float meets_sinks = among_sinks.of(own[e], other[e]);
      if (K::KEYS_TURNED)
        value = hadamard<D, SIZE>(scratch, value), meets_sinks = hadamard<D, SIZE>(scratch, meets_sinks);
      q[at] = value;
      if (twice) sink_q[at] = meets_sinks;
    } else if (h >= q_heads + heads) {
      value = V::VALUES_TURNED ? hadamard<D, SIZE>(scratch, own[e]) : own[e];
      keep(V(), start + pages.value(head, offset), start + pages.value_scale(head, offset), value);
    } else if constexpr (!K::GROUPED) {
      if (K::KEYS_TURNED) value = hadamard<D, SIZE>(scratch, value);
      keep(K(), start + pages.key(head, offset), start + pages.key_scale(head, offset), value);
    }
  }
}

// Keys that are rounded together. A group's codes are written when it is complete; until then its keys wait, in f16, in
// the sequence's tail. `own` f32 [group][head][token][dimension] gets the keys of each group that this step adds to.
struct Groups {
  const int* sequences;  // first token, tokens, tail, the first of its groups in `own`
  const int* positions;
  int count;

  __device__ __forceinline__ int start(int i) const { return positions[sequences[4 * i]]; }
  __device__ __forceinline__ int groups(int i) const {
    return (start(i) + sequences[4 * i + 1] - 1) / GROUP_TOKENS - start(i) / GROUP_TOKENS + 1;
  }
  // The sequence that has the group `index` of `own`, or -1.
  __device__ __forceinline__ int sequence(int index) const {
    for (int i = 0; i < count; ++i)
      if (index < sequences[4 * i + 3] + groups(i)) return i;
    return -1;
  }
};

template <class K, class V, int D>
DEVICE void keep_group(const Pages<K, V>& pages, int head, int first, const float* x) {
  const int d = threadIdx.x;
  float low = x[0], high = x[0];
#pragma unroll
  for (int t = 1; t < GROUP_TOKENS; ++t) low = fminf(low, x[t]), high = fmaxf(high, x[t]);
  const int second = first + GROUP_TOKENS / 2;
  const u16 minimum = half_of(low), step = int4_step(high, minimum);
  ((u16*)(pages.page(first) + pages.key_scale(head, first % pages.page_size)))[d] = step;
  ((u16*)(pages.page(second) + pages.key_scale(head, second % pages.page_size)))[d] = minimum;
#pragma unroll
  for (int t = 0; t < GROUP_TOKENS; ++t)
    keep_nibble(pages.page(first + t) + pages.key(head, (first + t) % pages.page_size), int4_code(x[t], step, minimum));
}

// A block has one head of a group; that of a sequence's first group has the last one as well, since the first reads the
// tail that the last writes.
template <class K, class V, int D>
DEVICE void group_append(const float* qkv, const float* table, const int* positions, const int* sequences,
                         const int* tables, u8* pool, u16* tails, float* own, int count, int width, int q_heads, int heads,
                         int rotary, int page_size, i64 page_bytes) {
  after_previous();
  const Groups all = {sequences, positions, count};
  const int i = all.sequence(blockIdx.x), head = blockIdx.y, d = threadIdx.x;
  if (i < 0) return;
  const int first_token = sequences[4 * i], start = all.start(i), stop = start + sequences[4 * i + 1];
  const int index = blockIdx.x - sequences[4 * i + 3], last = all.groups(i) - 1;
  if (index == last && index > 0) return;
  const Pages<K, V> pages = {pool, tables + (i64)i * width, page_bytes, page_size, heads, D};
  u16* tail = tails + ((i64)sequences[4 * i + 2] * heads + head) * GROUP_TOKENS * D + d;
  for (int group = index;; group = last) {
    const int first = (start / GROUP_TOKENS + group) * GROUP_TOKENS;
    float* to = own + ((i64)(sequences[4 * i + 3] + group) * heads + head) * GROUP_TOKENS * D + d;
    float x[GROUP_TOKENS];
#pragma unroll
    for (int t = 0; t < GROUP_TOKENS; ++t) {
      const i64 token = first_token + first + t - start;
      const float* from = qkv + (token * (q_heads + 2 * heads) + q_heads + head) * D;
      x[t] = 0;
      if (first + t < start) x[t] = float_of(tail[t * D]);
      else if (first + t < stop) x[t] = float_of(half_of(within_half(turned(from, table + token * rotary, d, rotary))));
    }
#pragma unroll
    for (int t = 0; t < GROUP_TOKENS; ++t) to[t * D] = x[t];
    if (first + GROUP_TOKENS <= stop) {
      keep_group<K, V, D>(pages, head, first, x);
    } else {
#pragma unroll
      for (int t = 0; t < GROUP_TOKENS; ++t) tail[t * D] = half_of(x[t]);
    }
    if (index > 0 || group == last) break;
  }
}
