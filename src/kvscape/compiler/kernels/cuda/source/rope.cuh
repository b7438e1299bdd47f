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
  if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = x;
  __syncthreads();
  for (int i = 0; i < (int)blockDim.x / WARP; ++i) x = fmaxf(x, parts[i]);
  return x;
}

DEVICE void keep(HalfPages, u8* codes, u8*, float x, int D) {
  if (threadIdx.x < D) ((u16*)codes)[threadIdx.x] = half_of(within_half(x));
}
DEVICE void keep(Int8Pages, u8* codes, u8* scale, float x, int D) {
  const u16 step = half_of(largest_of_block(threadIdx.x < D ? fabsf(x) : 0.0f) / 127.0f);
  const float ratio = float_of(step) > 0 ? x / float_of(step) : 0.0f;
  if (threadIdx.x < D) codes[threadIdx.x] = (u8)(signed char)fminf(fmaxf(rintf(ratio), -127.0f), 127.0f);
  if (threadIdx.x == 0) *(u16*)scale = step;
}

// A block has one head of one token: a query, a key or a value.
template <class P, int D, int SIZE>
DEVICE void rope_append(const float* qkv, const float* table, const float* sink_table, const int* slots, u8* pool,
                        float* q, float* sink_q, int q_heads, int heads, int rotary, int page_size, i64 page_bytes) {
  after_previous();
  __shared__ float scratch[D];
  const int h = blockIdx.y, d = threadIdx.x;
  const i64 i = blockIdx.x;
  const float* x = qkv + (i * (q_heads + 2 * heads) + h) * D;
  if (h < q_heads) {
    float value = d < D ? turned(x, table + i * rotary, d, rotary) : 0.0f;
    float meets_sinks = d < D ? turned(x, sink_table + i * rotary, d, rotary) : 0.0f;
    if (P::TURNED) value = hadamard<D, SIZE>(scratch, value), meets_sinks = hadamard<D, SIZE>(scratch, meets_sinks);
    if (d < D) q[(i * q_heads + h) * D + d] = value, sink_q[(i * q_heads + h) * D + d] = meets_sinks;
    return;
  }
  const Page<P> page = {nullptr, page_size, heads, D};
  u8* start = pool + slots[i] / page_size * page_bytes;
  const int offset = slots[i] % page_size, head = (h - q_heads) % heads;
  if (h < q_heads + heads) {
    float value = d < D ? turned(x, table + i * rotary, d, rotary) : 0.0f;
    if (P::TURNED) value = hadamard<D, SIZE>(scratch, value);
    keep(P(), start + page.key(head, offset), start + page.key_scale(head, offset), value, D);
  } else {
    keep(P(), start + page.value(head, offset), start + page.value_scale(head, offset), d < D ? x[d] : 0.0f, D);
  }
}
