// CUDA for a processor, as far as the kernels need it: `emulated.py` puts it in front of them, in place of
// source/instructions.cuh. A block's threads are fibers that run in turn until they wait for each other; what a warp does
// together, its lanes exchange through memory. Blocks run one after the other, so shared memory is static memory.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <vector>

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef long long i64;

#define __device__
#define __global__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define DEVICE static inline
constexpr int WARP = 32;
constexpr u32 ALL = 0xffffffffu;

struct alignas(8) uint2 { u32 x, y; };
static void note_write(const void* to);
struct alignas(16) uint4 {
  u32 x, y, z, w;
  uint4& operator=(const uint4& v) { return x = v.x, y = v.y, z = v.z, w = v.w, note_write(this), *this; }
};
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
DEVICE uint2 make_uint2(u32 a, u32 b) { return {a, b}; }
DEVICE uint4 make_uint4(u32 a, u32 b, u32 c, u32 d) { return {a, b, c, d}; }
DEVICE float2 make_float2(float a, float b) { return {a, b}; }
DEVICE float4 make_float4(float a, float b, float c, float d) { return {a, b, c, d}; }
template <class T> DEVICE T min(T a, T b) { return a < b ? a : b; }
template <class T> DEVICE T max(T a, T b) { return a > b ? a : b; }

// Threads

struct Index { int x, y, z; };
static Index blockIdx, blockDim, gridDim;
static int current, threads, running;
#define threadIdx (Index{current, 0, 0})

constexpr int MOST_THREADS = 1024, MOST_WARPS = MOST_THREADS / WARP;
constexpr size_t STACK_BYTES = 1 << 18;
struct Fiber { void* stack; bool is_done; };
static Fiber fibers[MOST_THREADS];
static void* outside;
static void (*kernel)(void*);
static void* kernel_arguments;
static u32 shared_bytes;  // that a launch gives a block

[[noreturn]] static void stop(const char* why) { fprintf(stderr, "emulated: %s\n", why); abort(); }

extern "C" void switch_stack(void** from, void* to);
asm(R"(
.text
.hidden switch_stack
.globl switch_stack
switch_stack:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
)");

// A warp goes on as far as it can before the next one does, so that what misses a barrier finds others far behind.
static int stayed;  // turns of a warp since its threads last met
static void give_way() {
  const int from = current, warp = from / WARP * WARP, count = min(WARP, threads - warp);
  int to = from;
  if (++stayed < WARP)
    do to = warp + (to - warp + 1) % count;
    while (fibers[to].is_done && to != from);
  if (to == from) {
    stayed = 0, to = warp + count - 1;
    do to = (to + 1) % threads;
    while ((fibers[to].is_done || to == from) && to != warp + count - 1);
    if (fibers[to].is_done) to = from;
  }
  if (to == from) stop("a thread waits for others, and there are none");
  current = to;
  switch_stack(&fibers[from].stack, fibers[to].stack);
  current = from;
}

// `all` threads meet here; the last one to come lets the others go on.
struct Meeting {
  int all, arrived, times;

  void wait() {
    const int now = times;
    if (++arrived == all) { arrived = stayed = 0, ++times; return; }
    for (long turns = 0; times == now; ++turns) {
      if (turns > 10000000) stop("threads wait for each other at different places");
      give_way();
    }
  }
  void leave() {
    if (--all > 0 && arrived == all) arrived = 0, ++times;
  }
};
static Meeting block, warpgroups[MOST_WARPS / 4], warps[MOST_WARPS];
DEVICE Meeting& own_warp() { return warps[current / WARP]; }
DEVICE void __syncthreads() { block.wait(); }
DEVICE bool __syncthreads_or(bool x) {
  static int found[2], turn;  // who hears of one need not have heard of the last
  const int now = turn;
  if (x) found[now] = 1;
  block.wait();
  const bool is_any = found[now];
  block.wait();
  turn = 1 - now, found[now] = 0;
  return is_any;
}
DEVICE void __syncwarp(u32 = ALL) { own_warp().wait(); }

static void check_end_of_thread();
static void run_thread() {
  kernel(kernel_arguments);
  check_end_of_thread();
  fibers[current].is_done = true;
  own_warp().leave(), warpgroups[current / 128].leave(), block.leave();
  void* nowhere;
  if (--running == 0) switch_stack(&nowhere, outside);
  give_way();
}

static void forget_writes();
static void run_block(int count) {
  static char* stacks = (char*)mmap(nullptr, STACK_BYTES * MOST_THREADS, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  threads = running = count, current = 0;
  forget_writes();
  block = {count, 0, 0};
  for (int i = 0; i < MOST_WARPS; ++i) warps[i] = {max(0, min(WARP, count - WARP * i)), 0, 0};
  for (int i = 0; i < MOST_WARPS / 4; ++i) warpgroups[i] = {max(0, min(128, count - 128 * i)), 0, 0};
  for (int i = 0; i < count; ++i) {
    void** top = (void**)(stacks + STACK_BYTES * (i + 1)) - 8;  // six registers, where to go, and nowhere to return
    memset(top, 0, 8 * sizeof(void*));
    top[6] = (void*)run_thread;
    fibers[i] = {top, false};
  }
  switch_stack(&outside, fibers[0].stack);
}

template <class Arguments>
static void run_grid(void (*body)(void*), Arguments& arguments, i64 columns, i64 rows, i64 count, i64 bytes) {
  kernel = body, kernel_arguments = &arguments, shared_bytes = (u32)bytes;
  gridDim = {(int)columns, (int)rows, 1}, blockDim = {(int)count, 1, 1};
  for (int y = 0; y < rows; ++y)
    for (int x = 0; x < columns; ++x) blockIdx = {x, y, 0}, run_block((int)count);
}

// What lanes say to each other: nobody speaks twice before all have heard the first.

struct Said { u32 words[8]; };
static Said said[2][MOST_THREADS];
static int turn[MOST_THREADS];
DEVICE const Said* exchange(const u32* words, int count) {
  Said* all = said[turn[current] ^= 1];
  memcpy(all[current].words, words, 4 * count);
  own_warp().wait();
  return all + current / WARP * WARP;
}
template <class T> DEVICE T of_lane(T x, int lane) {
  u32 words[2] = {};
  memcpy(words, &x, sizeof x);
  memcpy(&x, exchange(words, 2)[lane].words, sizeof x);
  return x;
}
template <class T> DEVICE T __shfl_sync(u32, T x, int lane) { return of_lane(x, lane); }
template <class T> DEVICE T __shfl_xor_sync(u32, T x, int bits) { return of_lane(x, (current % WARP) ^ bits); }
template <class T> DEVICE T __shfl_up_sync(u32, T x, int by) {
  const int lane = current % WARP;
  return of_lane(x, lane < by ? lane : lane - by);
}
DEVICE u32 __ballot_sync(u32, bool x) {
  const u32 word = x;
  const Said* lanes = exchange(&word, 1);
  u32 found = 0;
  for (int i = 0; i < WARP; ++i) found |= lanes[i].words[0] << i;
  return found;
}
DEVICE int __ffs(int x) { return __builtin_ffs(x); }
template <class T> DEVICE T atomicAdd(T* place, T x) { const T old = *place; *place += x; return old; }

// Numbers

template <class To, class From> DEVICE To bits_as(From x) { To y; memcpy(&y, &x, sizeof y); return y; }
DEVICE float __int_as_float(int x) { return bits_as<float>(x); }
DEVICE float __uint_as_float(u32 x) { return bits_as<float>(x); }
DEVICE u32 __float_as_uint(float x) { return bits_as<u32>(x); }
DEVICE int __float_as_int(float x) { return bits_as<int>(x); }
DEVICE float __fmul_rn(float a, float b) { return a * b; }  // products are not joined with sums here
DEVICE double __dmul_rn(double a, double b) { return a * b; }
DEVICE double __dadd_rn(double a, double b) { return a + b; }
DEVICE float rsqrtf(float x) { return 1.0f / sqrtf(x); }
DEVICE unsigned long long __double2ull_rn(double x) { return (unsigned long long)rint(x); }
DEVICE u32 __byte_perm(u32 a, u32 b, u32 which) {
  const unsigned long long all = (unsigned long long)b << 32 | a;
  u32 found = 0;
  for (int i = 0; i < 4; ++i) found |= (u32)(all >> 8 * (which >> 4 * i & 7) & 255) << 8 * i;
  return found;
}
DEVICE float float_of(u16 h) { return (float)bits_as<_Float16>(h); }
DEVICE u16 half_of(float f) { return bits_as<u16>((_Float16)f); }
DEVICE u32 halves(float low, float high) { return half_of(low) | (u32)half_of(high) << 16; }
DEVICE float lower(u32 x) { return float_of((u16)x); }
DEVICE float upper(u32 x) { return float_of((u16)(x >> 16)); }
DEVICE u32 subtract2(u32 a, u32 b) { return halves(lower(a) - lower(b), upper(a) - upper(b)); }
DEVICE u32 multiply2(u32 a, u32 b) { return halves(lower(a) * lower(b), upper(a) * upper(b)); }
DEVICE u32 fma2(u32 a, u32 b, u32 c) {
  return halves(fmaf(lower(a), lower(b), lower(c)), fmaf(upper(a), upper(b), upper(c)));
}
DEVICE u32 and_or(u32 a, u32 b, u32 c) { return (a & b) | c; }
DEVICE float exp_2(float x) { return exp2f(x); }

// Tensor cores: the lanes' parts of the operands are said in source/instructions.cuh.
DEVICE void multiply_add(float* c, const u32* a, u32 b0, u32 b1) {
  const u32 own[6] = {a[0], a[1], a[2], a[3], b0, b1};
  const Said* lanes = exchange(own, 6);
  for (int i = 0; i < 4; ++i) {
    const int row = current % WARP / 4 + i / 2 * 8, column = current % 4 * 2 + i % 2;
    double sum = c[i];
    for (int k = 0; k < 16; ++k) {
      const u32 x = lanes[row % 8 * 4 + k % 8 / 2].words[row / 8 + k / 8 * 2];
      const u32 y = lanes[column * 4 + k % 8 / 2].words[4 + k / 8];
      sum += k % 2 ? (double)upper(x) * upper(y) : (double)lower(x) * lower(y);
    }
    c[i] = (float)sum;
  }
}

// Shared memory; its addresses are counted from what a launch gives a block.
alignas(1024) static char dynamic_memory[1 << 18];
static u16 unpublished[sizeof dynamic_memory / 16];  // which thread wrote 16 bytes, counted from one
static std::vector<int> written[MOST_THREADS];
static void note_write(const void* to) {
  const size_t at = (const char*)to - dynamic_memory;
  if (at < sizeof dynamic_memory) unpublished[at / 16] = current + 1, written[current].push_back(at / 16);
}
static void forget_writes() {
  memset(unpublished, 0, sizeof unpublished);
  for (auto& each : written) each.clear();
}
DEVICE u32 shared_address(const void* p) { return (u32)((const char*)p - dynamic_memory); }
DEVICE char* at_shared(u32 address) { return dynamic_memory + (int)address; }
// Copies are done when they are waited for, no sooner.
struct PendingCopy { u32 to, bytes; const void* from; };
static std::vector<std::vector<PendingCopy>> asked_copies[MOST_THREADS];  // groups, the last of which is not committed yet
DEVICE std::vector<std::vector<PendingCopy>>& own_copies() {
  auto& groups = asked_copies[current];
  if (groups.empty()) groups.emplace_back();
  return groups;
}
static void ask_for_copy(u32 to, const void* from, u32 bytes) {
  if ((uintptr_t)from % bytes || to % bytes) stop("bytes are copied from or to where they may not lie");
  memset(at_shared(to), 0x7b, bytes);
  own_copies().back().push_back({to, bytes, from});
}
DEVICE void copy_async(u32 to, const void* from, bool there) {
  alignas(16) static const char zeros[16] = {};
  ask_for_copy(to, there ? from : zeros, 16);
}
DEVICE void copy_8_async(u32 to, const void* from) { ask_for_copy(to, from, 8); }
DEVICE void commit_copies() { own_copies().emplace_back(); }
template <int PENDING> static void wait_for_copies() {
  for (auto& groups = own_copies(); groups.size() > PENDING + 1; groups.erase(groups.begin()))
    for (const PendingCopy& each : groups.front()) memcpy(at_shared(each.to), each.from, each.bytes);
}
DEVICE void load_transposed(u32 from, u32* v) {
  const Said* lanes = exchange(&from, 1);
  for (int i = 0; i < 4; ++i) {
    u16 pair[2];
    for (int j = 0; j < 2; ++j)
      pair[j] = ((u16*)at_shared(lanes[8 * i + current % 4 * 2 + j].words[0]))[current % WARP / 4];
    v[i] = pair[0] | (u32)pair[1] << 16;
  }
}

template <class T> DEVICE T constants(const T* p) { return *p; }
DEVICE void after_previous() {}
