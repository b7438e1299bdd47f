// How codes become f16 numbers; quantization/layouts/fragments.py has the order of the bits.
// 1024 + c has c in the lowest bits of an f16 number: or-ing them in and subtracting is exact, and no conversion.

struct F16 {
  static constexpr int GROUP = 32, PAIRS = 1, LOADS = 4;
  static constexpr bool SCALED = false, MINIMUM = false;
  static __device__ __forceinline__ u32 codes(u32 word, int) { return word; }
};
struct Q8 {
  static constexpr int GROUP = 32, PAIRS = 2, LOADS = 2;
  static constexpr bool SCALED = true, MINIMUM = false;
  static __device__ __forceinline__ u32 codes(u32 word, int pair) {
    return subtract2(__byte_perm(word, 0x64646464u, pair ? 0x4342 : 0x4140), 0x647f647fu);  // 1024 + 127
  }
};
// Codes that begin B bits higher are 2^B times what they are: a multiplication by 2^-B leaves 1024 2^-B + c.
template <int B, int BITS, int OFFSET>
DEVICE u32 codes_at(u32 word) {
  constexpr u32 MASK = ((1u << BITS) - 1) << B;
  const u32 x = and_or(word, MASK * 0x10001u, 0x64006400u);
  if (B == 0) return subtract2(x, (0x6400u + OFFSET) * 0x10001u);
  constexpr u32 BASE = 1024 >> B, EXPONENT = 25 - B;  // of BASE; f16 has 10 bits behind it
  return fma2(x, (0x3c00u - (B << 10)) * 0x10001u, (0x8000u | EXPONENT << 10 | OFFSET << B) * 0x10001u);
}
template <int OFFSET>
DEVICE u32 nibbles(u32 word, int pair) {
  const u32 two = pair < 2 ? word : word >> 8;
  return pair % 2 ? codes_at<4, 4, OFFSET>(two) : codes_at<0, 4, OFFSET>(two);
}

struct Q4 {
  static constexpr int GROUP = 32, PAIRS = 4, LOADS = 1;
  static constexpr bool SCALED = true, MINIMUM = false;
  static __device__ __forceinline__ u32 codes(u32 word, int pair) { return nibbles<7>(word, pair); }
};
struct Q4A {
  static constexpr int GROUP = 32, PAIRS = 4, LOADS = 1;
  static constexpr bool SCALED = true, MINIMUM = true;
  static __device__ __forceinline__ u32 codes(u32 word, int pair) { return nibbles<0>(word, pair); }
};
struct Q3 {
  static constexpr int GROUP = 40, PAIRS = 5, LOADS = 1;
  static constexpr bool SCALED = true, MINIMUM = false;
  static __device__ __forceinline__ u32 codes(u32 word, int pair) {
    const u32 two = pair < 3 ? word : word >> 9;
    return pair % 3 == 0 ? codes_at<0, 3, 3>(two) : pair % 3 == 1 ? codes_at<3, 3, 3>(two) : codes_at<6, 3, 3>(two);
  }
};

// Where a lane's part of a chunk of 16 rows begins.
template <class F>
struct Packed {
  const uint4* codes;
  const u32* scales;

  Packed() = default;
  // The chunk `at`, counted through all blocks of 16 rows.
  __device__ __forceinline__ Packed(const uint4* codes, const u32* scales, i64 at)
      : codes(codes + at * (F::LOADS * 2 * WARP) + threadIdx.x % WARP),
        scales(scales + at * ((1 + F::MINIMUM) * WARP) + threadIdx.x % WARP) {}
  __device__ __forceinline__ void advance(int chunks) {
    codes += chunks * (F::LOADS * 2 * WARP), scales += chunks * ((1 + F::MINIMUM) * WARP);
  }
};

// What one lane has of 16 rows and four groups of columns: in rows g and g + 8 the group t.
template <class F>
struct Block {
  uint4 words[F::LOADS][2];
  u32 scale, minimum;

  // The chunk that is `chunk` behind.
  __device__ __forceinline__ void load(const Packed<F>& from, int chunk) {
#pragma unroll
    for (int i = 0; i < 2 * F::LOADS; ++i) words[i / 2][i % 2] = constants(from.codes + (chunk * 2 * F::LOADS + i) * WARP);
    if (F::SCALED) scale = constants(from.scales + chunk * (1 + F::MINIMUM) * WARP);
    if (F::MINIMUM) minimum = constants(from.scales + (chunk * 2 + 1) * WARP);
  }

  // Pair `pair` of the group in the lower (half 0) or upper row.
  __device__ __forceinline__ u32 value(int pair, int half) const {
    const u32* word = &words[pair / (4 * F::PAIRS)][half].x;
    const u32 code = F::codes(word[pair / F::PAIRS % 4], pair % F::PAIRS);
    if (!F::SCALED) return code;
    const u32 s = __byte_perm(scale, 0, half ? 0x3232 : 0x1010);
    if (!F::MINIMUM) return multiply2(code, s);
    return fma2(code, s, __byte_perm(minimum, 0, half ? 0x3232 : 0x1010));
  }

  __device__ __forceinline__ void fragment(int step, u32* a) const {
    a[0] = value(2 * step, 0), a[1] = value(2 * step, 1), a[2] = value(2 * step + 1, 0), a[3] = value(2 * step + 1, 1);
  }
};
