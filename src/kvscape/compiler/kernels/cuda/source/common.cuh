// What all kernels use.

DEVICE float within_half(float f) { return fminf(fmaxf(f, -65504.0f), 65504.0f); }
DEVICE u32 twice(u16 h) { return (u32)h | ((u32)h << 16); }
DEVICE float hyperbolic_tangent(float x) { return 1.0f - 2.0f / (1.0f + exp_2(2.8853900817779268f * x)); }

DEVICE float sum_of_warp(float x) {
  for (int i = 16; i > 0; i /= 2) x += __shfl_xor_sync(ALL, x, i);
  return x;
}
// The sum of what all threads of a block have; every thread gets it.
DEVICE float sum_of_block(float x) {
  __shared__ float parts[WARP];
  const int lane = threadIdx.x % WARP;
  x = sum_of_warp(x);
  if (lane == 0) parts[threadIdx.x / WARP] = x;
  __syncthreads();
  x = sum_of_warp(lane < (int)blockDim.x / WARP ? parts[lane] : 0.0f);
  __syncthreads();
  return x;
}

DEVICE void store(float* y, i64 i, float x) { y[i] = x; }
DEVICE void store(u16* y, i64 i, float x) { y[i] = half_of(within_half(x)); }
DEVICE void store4(float* y, i64 i, float4 x) { *(float4*)(y + i) = x; }
DEVICE void store4(u16* y, i64 i, float4 x) {
  *(uint2*)(y + i) = make_uint2(halves(within_half(x.x), within_half(x.y)), halves(within_half(x.z), within_half(x.w)));
}
