// What is asked of logits. A block of 1024 threads has one row.

DEVICE bool is_better(float a, int place_a, float b, int place_b) { return a > b || (a == b && place_a < place_b); }

// Every thread gets the first of the largest; of a row that is not numbers, the first.
DEVICE int place_of_largest(const float* row, int V) {
  __shared__ float peaks[WARP];
  __shared__ int places[WARP];
  float peak = -__int_as_float(0x7f800000);
  int place = 0x7fffffff;
#pragma unroll 8
  for (int i = threadIdx.x; i < V; i += blockDim.x)
    if (is_better(row[i], i, peak, place)) peak = row[i], place = i;
  for (int level = 0; level < 2; ++level) {
    for (int i = 16; i > 0; i /= 2) {
      const float other = __shfl_xor_sync(ALL, peak, i);
      const int at = __shfl_xor_sync(ALL, place, i);
      if (is_better(other, at, peak, place)) peak = other, place = at;
    }
    if (level == 1) break;
    if (threadIdx.x % WARP == 0) peaks[threadIdx.x / WARP] = peak, places[threadIdx.x / WARP] = place;
    __syncthreads();
    peak = peaks[threadIdx.x % WARP], place = places[threadIdx.x % WARP];
  }
  return place == 0x7fffffff ? 0 : place;
}

DEVICE void greedy(const float* logits, int* y, int V) {
  after_previous();
  const int place = place_of_largest(logits + (i64)blockIdx.x * V, V);
  if (threadIdx.x == 0) y[blockIdx.x] = place;
}

DEVICE void logprobs(const float* logits, const int* ids, float* y, int V) {
  after_previous();
  __shared__ float parts[WARP];
  const float* row = logits + (i64)blockIdx.x * V;
  float peak = row[0];
  for (int i = threadIdx.x; i < V; i += blockDim.x) peak = fmaxf(peak, row[i]);
  for (int i = 16; i > 0; i /= 2) peak = fmaxf(peak, __shfl_xor_sync(ALL, peak, i));
  if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = peak;
  __syncthreads();
  for (int i = 0; i < WARP; ++i) peak = fmaxf(peak, parts[i]);
  __syncthreads();
  float sum = 0;
  for (int i = threadIdx.x; i < V; i += blockDim.x) sum += expf(row[i] - peak);
  sum = sum_of_warp(sum);
  if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = sum;
  __syncthreads();
  sum = 0;
  for (int i = 0; i < WARP; ++i) sum += parts[i];
  if (threadIdx.x == 0) y[blockIdx.x] = row[ids[blockIdx.x]] - peak - logf(sum);
}
