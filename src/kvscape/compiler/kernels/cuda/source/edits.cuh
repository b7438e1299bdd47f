// What requests do to their logits before tokens are drawn (engine/draws.py says how), and what is told of the tokens.

struct EditedRow {
  int row, first, last, mask;  // changes from `first` up to `last`; without a mask, -1, all tokens may come
};
struct Change {
  int token;
  float positive, other, offset;
};
constexpr double MOST_LOGIT = 3.4028234663852886e38;

DEVICE float changed(float x, const Change& change) {
  const double y = __dadd_rn(__dmul_rn(x, x > 0 ? change.positive : change.other), change.offset);
  return (float)(y > MOST_LOGIT ? MOST_LOGIT : y < -MOST_LOGIT ? -MOST_LOGIT : y);
}

// Copies rows, edited. The blocks of a column of the grid share one; each changes what it has copied.
DEVICE void edit(const float* logits, const int* rows, const int* changes, const int* masks, float* y, int V) {
  after_previous();
  const EditedRow row = ((const EditedRow*)rows)[blockIdx.x];
  const float* x = logits + (i64)row.row * V;
  const u32* mask = (const u32*)masks + (i64)row.mask * ((V + 31) / 32);
  const auto may_come = [&](int i) { return row.mask < 0 || (mask[i / 32] >> i % 32 & 1); };
  const int stretch = (V + gridDim.y - 1) / gridDim.y, start = blockIdx.y * stretch, stop = min(V, start + stretch);
  y += (i64)blockIdx.x * V;
  for (int i = start + threadIdx.x; i < stop; i += blockDim.x) y[i] = may_come(i) ? x[i] : -__int_as_float(0x7f800000);
  __syncthreads();
  for (int k = row.first + threadIdx.x; k < row.last; k += blockDim.x) {
    const Change change = ((const Change*)changes)[k];
    const int i = change.token;
    if (start <= i && i < stop && may_come(i)) y[i] = changed(x[i], change);
  }
}

// Log-probabilities of a token and of the likeliest ones of its row. A block of 1024 threads has one row; y is the token's,
// then tokens, then theirs. Each thread knows the best of its own tokens; when that is taken, all look for its next one.
DEVICE void token_logprobs(const float* logits, const int* asked, int* y, int V, int width) {
  after_previous();
  const float* row = logits + (i64)asked[2 * blockIdx.x] * V;
  const Shares shares = shares_of(row, V);
  const int number = width / 2;
  const auto larger = [](u64 a, u64 b) { return a > b ? a : b; };
  u64 best = 0;
  each_of_row(row, shares, [&](float x, int i) { best = larger(best, rank_of(x, i)); });
  u64 found = joined_of_block(best, larger);
  const float highest = row[place_of(found)];
  double sum = 0;
  each_of_row(row, shares, [&](float x, int) { sum += expf(x - highest); });
  const double weight = log(joined_of_block(sum, [](double a, double b) { return a + b; }));
  const auto logprob = [&](int i) { return __float_as_int((float)((double)row[i] - highest - weight)); };
  y += (i64)blockIdx.x * width;
  if (threadIdx.x == 0) y[0] = logprob(asked[2 * blockIdx.x + 1]);
  for (int k = 0; k < number; ++k) {
    const int place = place_of(found), owner = shares.owner(place);
    if (threadIdx.x == 0) y[1 + k] = place, y[1 + number + k] = logprob(place);
    u64 next = 0;
    const auto see = [&](int i) {
      const u64 rank = i < V ? rank_of(row[i], i) : 0;
      if (rank < found) next = larger(next, rank);
    };
    for (int n = threadIdx.x; n < V / (int)blockDim.x + 4; n += blockDim.x)
      see(shares.of_fours(owner, n)), see(shares.single(owner, n));
    next = joined_of_block(next, larger);
    if (threadIdx.x == owner) best = next;
    found = joined_of_block(best, larger);
  }
}
