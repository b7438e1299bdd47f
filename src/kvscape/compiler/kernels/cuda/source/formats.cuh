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
struct Q4 {
  static constexpr int GROUP = 32, PAIRS = 4, LOADS = 1;
  static constexpr bool SCALED = true, MINIMUM = false;
  static __device__ __forceinline__ u32 codes(u32 word, int pair) {
    return subtract2(((word >> (4 * pair)) & 0x000f000fu) | 0x64006400u, 0x64076407u);
  }
};
struct Q4A {
  static constexpr int GROUP = 32, PAIRS = 4, LOADS = 1;
  static constexpr bool SCALED = true, MINIMUM = true;
  static __device__ __forceinline__ u32 codes(u32 word, int pair) {
    return subtract2(((word >> (4 * pair)) & 0x000f000fu) | 0x64006400u, 0x64006400u);
  }
};
struct Q3 {
  static constexpr int GROUP = 40, PAIRS = 5, LOADS = 1;
  static constexpr bool SCALED = true, MINIMUM = false;
  static __device__ __forceinline__ u32 codes(u32 word, int pair) {
    return subtract2(((word >> (3 * pair)) & 0x00070007u) | 0x64006400u, 0x64036403u);
  }
};

// What one lane has of 16 rows and four groups of columns: in rows g and g + 8 the group t.
template <class F>
struct Block {
  uint4 words[F::LOADS][2];
  u32 scale, minimum;

  __device__ __forceinline__ void load(const uint4* codes, const u32* scales, i64 block) {
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int i = 0; i < F::LOADS; ++i)
      for (int h = 0; h < 2; ++h) words[i][h] = __ldg(codes + ((block * F::LOADS + i) * 2 + h) * WARP + lane);
    if (F::SCALED) scale = __ldg(scales + block * (1 + F::MINIMUM) * WARP + lane);
    if (F::MINIMUM) minimum = __ldg(scales + (block * 2 + 1) * WARP + lane);
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
