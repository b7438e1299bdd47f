// Where keys and values lie in a page of a layer: for each region in turn (keys, values, key scales, value scales), what
// belongs to each head, token behind token. One scale for each token and head.

struct HalfPages {
  static constexpr int SCALE_BYTES = 0;
  static constexpr bool TURNED = false, PLAIN = true;
  static __device__ __forceinline__ int code_bytes(int D) { return 2 * D; }
  // 8 numbers from the 8 codes at `codes`.
  static __device__ __forceinline__ uint4 read(const u8* codes, const u8*) { return *(const uint4*)codes; }
};

// Keys are multiplied by a Hadamard matrix before they are rounded, so that no dimension stands out.
struct Int8Pages {
  static constexpr int SCALE_BYTES = 2;
  static constexpr bool TURNED = true, PLAIN = false;
  static __device__ __forceinline__ int code_bytes(int D) { return D; }
  static __device__ __forceinline__ uint4 read(const u8* codes, const u8* scale) {
    const uint2 raw = *(const uint2*)codes;
    const u32 s = twice(*(const u16*)scale);
    return make_uint4(two(raw.x, 0x4140, s), two(raw.x, 0x4342, s), two(raw.y, 0x4140, s), two(raw.y, 0x4342, s));
  }
  // Signed codes plus 128 are small enough to be the last bits of 1024.
  static __device__ __forceinline__ u32 two(u32 raw, u32 which, u32 s) {
    return multiply2(subtract2(__byte_perm(raw ^ 0x80808080u, 0x64646464u, which), 0x64806480u), s);
  }
};

template <class P>
struct Page {
  const u8* start;
  int page_size, heads, D;

  __device__ __forceinline__ i64 key(int head, int token) const {
    return (i64)(head * page_size + token) * P::code_bytes(D);
  }
  __device__ __forceinline__ i64 value(int head, int token) const {
    return (i64)((heads + head) * page_size + token) * P::code_bytes(D);
  }
  __device__ __forceinline__ i64 key_scale(int head, int token) const {
    return (i64)2 * heads * page_size * P::code_bytes(D) + (head * page_size + token) * P::SCALE_BYTES;
  }
  __device__ __forceinline__ i64 value_scale(int head, int token) const {
    return key_scale(head, token) + (i64)heads * page_size * P::SCALE_BYTES;
  }
};
