// What runs beside a block's threads, for a processor: products of warpgroups, bulk copies, and the barriers that both are
// waited for with. Each is done as late as the kernel allows, so that a wait or a barrier that is missing shows; and what
// they read must be published, and may not change under them.
#include <deque>

struct Underway {
  float (*c)[4];
  const u32* a;
  u32 a_then[4];
  unsigned long long b;
  int adds, columns;
  std::vector<uint4> b_then;  // of a warp's first lane
};
static std::deque<std::vector<Underway>> products[MOST_THREADS];  // groups, the last of which is not committed yet
static bool fenced[MOST_THREADS];

// The 16 rows of a matrix in shared memory by columns, 8 rows together: each 16 bytes. No other mode is used.
static std::vector<uint4> matrix_at(unsigned long long b, int columns) {
  if (b >> 62 || b >> 49 & 7) stop("tensor cores read a matrix in an order that is not emulated");
  const u32 start = (b & 0x3fff) << 4, along = (b >> 16 & 0x3fff) << 4, across = (b >> 32 & 0x3fff) << 4;
  std::vector<uint4> found;
  for (int i = 0; i < 2 * columns; ++i) {
    const int column = i / 2;
    const u32 from = start + i % 2 * along + column / 8 * across + column % 8 * 16;
    if (from + 16 > shared_bytes) stop("tensor cores read what is no shared memory of the block");
    if (unpublished[from / 16]) stop("tensor cores read what was not published");
    uint4 eight;
    memcpy(&eight, at_shared(from), 16);
    found.push_back(eight);
  }
  return found;
}

DEVICE Meeting& own_warpgroup() { return warpgroups[current / 128]; }
static void warpgroup_fence() { own_warpgroup().wait(), fenced[current] = true; }
static void multiply_add_64(float (*c)[4], const u32* a, unsigned long long b, int adds, int columns = 128) {
  if (!fenced[current]) stop("products begin before their registers are written");
  auto& groups = products[current];
  if (groups.empty()) groups.emplace_back();
  groups.back().push_back({c, a, {a[0], a[1], a[2], a[3]}, b, adds, columns});
  if (current % WARP == 0) groups.back().back().b_then = matrix_at(b, columns);
}
static void commit_products() {
  if (products[current].empty()) products[current].emplace_back();
  products[current].emplace_back();
  fenced[current] = false;
}
DEVICE u16 half_at(const uint4& eight, int i) { return (u16)((&eight.x)[i / 2] >> i % 2 * 16); }
static void finish(const Underway& p) {
  static float columns[2][MOST_WARPS][256][16];
  const int warp = current / WARP, lane = current % WARP;
  if (lane == 0) {
    const std::vector<uint4> b = matrix_at(p.b, p.columns);
    if (memcmp(b.data(), p.b_then.data(), 16 * b.size())) stop("shared memory changed while tensor cores read it");
    auto& to = columns[turn[current] ^ 1][warp];
    for (int i = 0; i < 16 * p.columns; ++i) to[i / 16][i % 16] = float_of(half_at(b[i / 8], i % 8));
  }
  if (memcmp(p.a, p.a_then, 16)) stop("registers changed while tensor cores read them");
  const Said* lanes = exchange(p.a, 4);
  const auto& b = columns[turn[current]][warp];
  for (int half = 0; half < 2; ++half) {
    double a[16];
    for (int k = 0; k < 16; ++k) {
      const u32 two = lanes[lane / 4 * 4 + k % 8 / 2].words[half + k / 8 * 2];
      a[k] = k % 2 ? upper(two) : lower(two);
    }
    for (int i = 0; i < p.columns / 4; ++i) {
      float& c = p.c[i / 2][half * 2 + i % 2];
      const float* column = b[i / 2 * 8 + lane % 4 * 2 + i % 2];
      double sum = p.adds ? c : 0.0f;
      for (int k = 0; k < 16; ++k) sum += a[k] * column[k];
      c = (float)sum;
    }
  }
}
template <int PENDING> static void wait_for_products() {
  for (auto& groups = products[current]; groups.size() > PENDING + 1; groups.pop_front())
    for (const Underway& each : groups.front()) finish(each);
}
static void check_end_of_thread() {
  for (const auto& group : products[current])
    if (!group.empty()) stop("a thread ends while its products run");
  products[current].clear(), asked_copies[current].clear();
}

// What this thread wrote to shared memory may be read by what runs beside it.
static void publish() {
  for (int granule : written[current])
    if (unpublished[granule] == current + 1) unpublished[granule] = 0;
  written[current].clear();
}
DEVICE void settle(u32&) {}

// Barriers in shared memory: 8 bytes each.
struct Barrier { u16 arrivals, missing; u32 bytes : 31, phase : 1; };
struct Copy { u32 to; const void* from; u32 bytes, barrier; };
static std::vector<Copy> copies;
DEVICE Barrier& barrier_at(u32 at) { return *(Barrier*)at_shared(at); }
static void end_phase(Barrier& of) {
  if (of.missing == 0 && of.bytes == 0) of.missing = of.arrivals, of.phase ^= 1, stayed = 0;
}
static void make_barrier(u32 at, int arrivals) { barrier_at(at) = {(u16)arrivals, (u16)arrivals, 0, 0}; }
static void publish_barriers() {}
static void arrive_and_expect(u32 at, u32 bytes) {
  Barrier& of = barrier_at(at);
  if (of.missing == 0) stop("more threads arrive at a barrier than it waits for");
  of.bytes += bytes, --of.missing;
  end_phase(of);
}
static void arrive(u32 at) { arrive_and_expect(at, 0); }
static void copy_bulk(u32 to, const void* from, u32 bytes, u32 barrier) {
  if ((uintptr_t)from % 16 || to % 16 || bytes % 16) stop("a copy is not of 16 bytes each");
  if (to + bytes > shared_bytes) stop("a copy goes where no shared memory of the block is");
  memset(at_shared(to), 0x7b, bytes);  // until it is done
  copies.push_back({to, from, bytes, barrier});
}
static void finish_copies(u32 barrier) {
  std::vector<Copy> others;
  for (const Copy& each : copies) {
    if (each.barrier != barrier) { others.push_back(each); continue; }
    memcpy(at_shared(each.to), each.from, each.bytes);
    memset(unpublished + each.to / 16, 0, each.bytes / 16 * sizeof *unpublished);
    barrier_at(barrier).bytes -= each.bytes;
  }
  copies = others;
  end_phase(barrier_at(barrier));
}
static void wait_at(u32 at, u32 phase) {
  for (long turns = 0; barrier_at(at).phase == phase; ++turns) {
    if (turns > 10000000) stop("a barrier is waited for in vain");
    if (barrier_at(at).missing == 0) finish_copies(at);
    else give_way();
  }
}
template <int COUNT> DEVICE void take_registers() {}
template <int COUNT> DEVICE void leave_registers() {}
