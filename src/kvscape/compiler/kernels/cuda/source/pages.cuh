// How keys and values are kept, and where they lie in a page of a layer: for each region in turn (keys, values, key
// scales, value scales), what belongs to each head, token behind token. quantization/kv.py is the reference.
//
// A precision is a struct: bytes of D codes and of what a key or a value has beside them; PLAIN where the codes are the
// f16 numbers that are multiplied; STAGED where codes are brought to shared memory before they become numbers; GROUPED
// where GROUP_TOKENS keys are rounded together; KEYS_TURNED, VALUES_TURNED where they are multiplied by a Hadamard matrix
// before they are rounded, so that no dimension stands out; and `read`, which makes 8 f16 numbers from the codes of
// piece c.

constexpr int GROUP_TOKENS = 16;

DEVICE uint4 halves_of(const float4* x) {
  const float4 a = x[0], b = x[1];
  return make_uint4(halves(within_half(a.x), within_half(a.y)), halves(within_half(a.z), within_half(a.w)),
                    halves(within_half(b.x), within_half(b.y)), halves(within_half(b.z), within_half(b.w)));
}

struct Floats {
  static constexpr bool PLAIN = false, STAGED = false, GROUPED = false, KEYS_TURNED = false, VALUES_TURNED = false;
  static constexpr __device__ __forceinline__ int code_bytes(int D) { return 4 * D; }
  static constexpr __device__ __forceinline__ int key_scale_bytes(int) { return 0; }
  static constexpr __device__ __forceinline__ int value_scale_bytes() { return 0; }
  static __device__ __forceinline__ uint4 read(const u8* codes, int c, const u8*) {
    return halves_of((const float4*)codes + 2 * c);
  }
};

struct Halves : Floats {
  static constexpr bool PLAIN = true;
  static constexpr __device__ __forceinline__ int code_bytes(int D) { return 2 * D; }
  static __device__ __forceinline__ uint4 read(const u8* codes, int c, const u8*) {
    return ((const uint4*)codes)[c];
  }
};

// e4m3: moved to the place of f16's bits they are 256 times too small, subnormal ones as well.
struct Fp8 : Floats {
  static constexpr bool STAGED = true;
  static constexpr __device__ __forceinline__ int code_bytes(int D) { return D; }
  static __device__ __forceinline__ uint4 read(const u8* codes, int c, const u8*) {
    const uint2 raw = ((const uint2*)codes)[c];
    return make_uint4(two(raw.x, 0x1404), two(raw.x, 0x3424), two(raw.y, 0x1404), two(raw.y, 0x3424));
  }
  static __device__ __forceinline__ u32 two(u32 raw, u32 which) {
    const u32 upper = __byte_perm(raw, 0, which);
    return multiply2((upper & 0x80008000u) | ((upper & 0x7f007f00u) >> 1), 0x5c005c00u);
  }
  // The nearest e4m3 number, the even one of two, 448 at most.
  static __device__ __forceinline__ u8 code(float x) {
    const float size = fminf(fabsf(x), 448.0f);
    u32 bits = __float_as_uint(size);
    bits += 0x7ffffu + ((bits >> 20) & 1);
    const u32 rounded = size < 0.015625f ? (u32)rintf(size * 512.0f) : (bits >> 20) - (120u << 3);
    return (u8)(rounded | (x < 0 ? 0x80 : 0));
  }
};

struct Int8 : Floats {
  static constexpr bool STAGED = true, KEYS_TURNED = true;
  static constexpr __device__ __forceinline__ int code_bytes(int D) { return D; }
  static constexpr __device__ __forceinline__ int key_scale_bytes(int) { return 2; }
  static constexpr __device__ __forceinline__ int value_scale_bytes() { return 2; }
  static __device__ __forceinline__ uint4 read(const u8* codes, int c, const u8* scale) {
    const uint2 raw = ((const uint2*)codes)[c];
    const u32 s = twice(*(const u16*)scale);
    return make_uint4(two(raw.x, 0x4140, s), two(raw.x, 0x4342, s), two(raw.y, 0x4140, s), two(raw.y, 0x4342, s));
  }
  // Signed codes plus 128 are small enough to be the last bits of 1024.
  static __device__ __forceinline__ u32 two(u32 raw, u32 which, u32 s) {
    return multiply2(subtract2(__byte_perm(raw ^ 0x80808080u, 0x64646464u, which), 0x64806480u), s);
  }
};

// Pair p of 8 codes lies in a word from bit 4 p on, one code in each half of it.
DEVICE u32 nibble_pair(u32 word, int p) { return subtract2(((word >> (4 * p)) & 0x000f000fu) | 0x64006400u, 0x64006400u); }

// A value has a scale and a minimum. Of keys, each dimension of a group has them: the scales lie with the group's first 8
// tokens, the minima with the others, which may be in the next page.
struct Int4 : Floats {
  static constexpr bool STAGED = true, GROUPED = true, VALUES_TURNED = true;
  static constexpr __device__ __forceinline__ int code_bytes(int D) { return D / 2; }
  static constexpr __device__ __forceinline__ int key_scale_bytes(int D) { return D / 4; }
  static constexpr __device__ __forceinline__ int value_scale_bytes() { return 4; }
  static __device__ __forceinline__ uint4 read(const u8* codes, int c, const u8* scale) {
    const u32 word = ((const u32*)codes)[c], s = twice(((const u16*)scale)[0]), m = twice(((const u16*)scale)[1]);
    return scaled(word, make_uint4(s, s, s, s), make_uint4(m, m, m, m));
  }
  static __device__ __forceinline__ uint4 scaled(u32 word, uint4 s, uint4 m) {
    return make_uint4(fma2(nibble_pair(word, 0), s.x, m.x), fma2(nibble_pair(word, 1), s.y, m.y),
                      fma2(nibble_pair(word, 2), s.z, m.z), fma2(nibble_pair(word, 3), s.w, m.w));
  }
};

// A sequence's pages in one layer, of keys kept as K and values kept as V; `table` has the numbers of its pages.
template <class K, class V>
struct Pages {
  const u8* layer;
  const int* table;
  i64 page_bytes;
  int page_size, heads, D;

  __device__ __forceinline__ i64 key(int head, int token) const {
    return (i64)(head * page_size + token) * K::code_bytes(D);
  }
  __device__ __forceinline__ i64 value(int head, int token) const {
    return (i64)heads * page_size * K::code_bytes(D) + (i64)(head * page_size + token) * V::code_bytes(D);
  }
  __device__ __forceinline__ i64 key_scale(int head, int token) const {
    return (i64)heads * page_size * (K::code_bytes(D) + V::code_bytes(D)) +
           (i64)(head * page_size + token) * K::key_scale_bytes(D);
  }
  __device__ __forceinline__ i64 value_scale(int head, int token) const {
    return (i64)heads * page_size * (K::code_bytes(D) + V::code_bytes(D) + K::key_scale_bytes(D)) +
           (i64)(head * page_size + token) * V::value_scale_bytes();
  }
  // Where the page of a token of the sequence begins.
  __device__ __forceinline__ u8* page(int token) const {
    return (u8*)layer + table[token / page_size] * page_bytes;
  }
  __device__ __forceinline__ uint4 read_key(int head, int token, int c) const {
    const u8* start = page(token);
    const int at = token % page_size;
    return K::read(start + key(head, at), c, start + key_scale(head, at));
  }
  __device__ __forceinline__ uint4 read_value(int head, int token, int c) const {
    const u8* start = page(token);
    const int at = token % page_size;
    return V::read(start + value(head, at), c, start + value_scale(head, at));
  }
};
