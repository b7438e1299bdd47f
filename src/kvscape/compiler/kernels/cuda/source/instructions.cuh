// Types and single instructions, all that takes an NVIDIA GPU: tests/gpu/emulated.h stands in for it on a processor. No
// header is included, so that NVRTC's own wheel is all that compiling takes.
typedef unsigned char u8;
typedef unsigned short u16;  // also the bits of an f16 number
typedef unsigned int u32;    // also two f16 numbers, the first in the lower half
typedef long long i64;

#define DEVICE static __device__ __forceinline__
constexpr int WARP = 32;
constexpr u32 ALL = 0xffffffffu;

DEVICE float float_of(u16 h) { float f; asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h)); return f; }
DEVICE u16 half_of(float f) { u16 h; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f)); return h; }
DEVICE u32 halves(float low, float high) {
  u32 h;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(h) : "f"(high), "f"(low));
  return h;
}
DEVICE u32 subtract2(u32 a, u32 b) { u32 c; asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(c) : "r"(a), "r"(b)); return c; }
DEVICE u32 multiply2(u32 a, u32 b) { u32 c; asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(c) : "r"(a), "r"(b)); return c; }
DEVICE u32 fma2(u32 a, u32 b, u32 c) {
  u32 d;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
// a & b | c, at once
DEVICE u32 and_or(u32 a, u32 b, u32 c) {
  u32 d;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
DEVICE float exp_2(float x) { float y; asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return y; }

// c[16, 8] += a[16, 16] b[16, 8]. Of lane 4 g + t, a holds (row g, columns 2t and 2t + 1), (g + 8, same), (g, 2t + 8
// and 2t + 9), (g + 8, same); b (rows 2t and 2t + 1, column g), (2t + 8 and 2t + 9, g); c (g, 2t and 2t + 1), (g + 8, ..).
DEVICE void multiply_add(float* c, const u32* a, u32 b0, u32 b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// What no kernel writes, asked for where this stands: the compiler may move other loads behind `after_previous`.
DEVICE uint4 constants(const uint4* p) {
  uint4 v;
  asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
  return v;
}
DEVICE u32 constants(const u32* p) { u32 v; asm volatile("ld.global.u32 %0, [%1];" : "=r"(v) : "l"(p)); return v; }

DEVICE u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }
// 16 bytes from global to shared memory, zeros where `there` is false.
DEVICE void copy_async(u32 to, const void* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0));
}
DEVICE void copy_8_async(u32 to, const void* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(to), "l"(from));
}
DEVICE void commit_copies() { asm volatile("cp.async.commit_group;"); }
template <int PENDING>
DEVICE void wait_for_copies() { asm volatile("cp.async.wait_group %0;" ::"n"(PENDING)); }

// Four matrices of 8 by 8 f16 numbers, transposed: lane i has the address of row i % 8 of matrix i / 8; of each matrix it
// gets rows 2t and 2t + 1 of column g.
DEVICE void load_transposed(u32 from, u32* v) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
               : "r"(from));
}

// A kernel may begin before the ones before it have ended, and waits here until they have. The next one may begin as soon
// as all blocks of this one have. So what is read before must be older than the step: weights, the step's own numbers,
// which are copied before its first kernel, and keys and values of earlier steps.
DEVICE void after_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Products of warpgroups, four warps each, run beside their threads: from `commit_products` on until they are waited for.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
DEVICE void warpgroup_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int PENDING>
DEVICE void wait_for_products() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory"); }
// What was written to shared memory may be read by tensor cores. It waits for all loads as well: have none under way.
DEVICE void publish() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// c[64, 128] = a[64, 16] b[16, 128], plus c where `adds`, by the 128 threads of a warpgroup: a and c as those of
// `multiply_add`, 16 rows for each warp; b is in shared memory.
DEVICE void multiply_add_64(float (*c)[4], const u32* a, unsigned long long b, int adds) {
#define FOUR(i) "+f"(c[i][0]), "+f"(c[i][1]), "+f"(c[i][2]), "+f"(c[i][3])
  asm volatile(
      "{ .reg .pred p; setp.ne.b32 p, %69, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "{%64, %65, %66, %67}, %68, p, 1, 1, 0; }"
      : FOUR(0), FOUR(1), FOUR(2), FOUR(3), FOUR(4), FOUR(5), FOUR(6), FOUR(7), FOUR(8), FOUR(9), FOUR(10), FOUR(11),
        FOUR(12), FOUR(13), FOUR(14), FOUR(15)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(adds));
#undef FOUR
}
// The registers hold what they are given now: tensor cores read them at any time.
DEVICE void settle(u32& x) { asm volatile("" : "+r"(x)::"memory"); }

// Barriers in shared memory, of 8 bytes, that threads and copies arrive at; a barrier's phases are counted modulo 2.
DEVICE void make_barrier(u32 at, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at), "r"(arrivals) : "memory");
}
DEVICE void publish_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
DEVICE void arrive(u32 at) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(at) : "memory"); }
// Arrives, and the phase waits for as many bytes of copies as well.
DEVICE void arrive_and_expect(u32 at, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at), "r"(bytes) : "memory");
}
DEVICE bool has_ended(u32 at, u32 phase) {
  u32 ended;
  asm volatile(
      "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
      : "=r"(ended)
      : "r"(at), "r"(phase)
      : "memory");
  return ended;
}
// Until the phase has ended. That before the first one has.
DEVICE void wait_at(u32 at, u32 phase) {
  while (!has_ended(at, phase)) {}
}
DEVICE void copy_bulk(u32 to, const void* from, u32 bytes, u32 barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), "l"(from),
               "r"(bytes), "r"(barrier)
               : "memory");
}
template <int COUNT>
DEVICE void take_registers() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT)); }
template <int COUNT>
DEVICE void leave_registers() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT)); }
#endif
