// Calls the kernel that argv[1] names: its arguments come on the standard input, its tensors' bytes go to the standard
// output. An argument is 0 and an integer, or 1, DLPack's code and bits, the rank, the shape and the bytes; all numbers
// are int64. The macro KERNELS(K) lists the kernels as K(name) K(name) ...

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tvm/ffi/c_api.h>

#define MOST 16

typedef struct {
  void* sync;
  int32_t num_task;
} Tasks;

typedef int (*Task)(int task, Tasks* tasks, void* closure);

#define DECLARE(name) extern int __tvm_ffi_##name(void*, const TVMFFIAny*, int32_t, TVMFFIAny*);
KERNELS(DECLARE)

// What TVM's runtime gives to kernels: tasks run here one after the other.

static int launch(Task task, void* closure, int num_task) {
  const char* threads = getenv("TVM_NUM_THREADS");
  Tasks tasks = {NULL, num_task > 0 ? num_task : threads ? atoi(threads) : 1};
  for (int i = 0; i < tasks.num_task; ++i) {
    if (task(i, &tasks, closure) != 0) return -1;
  }
  return 0;
}

static void* allocate(int device_type, int device_id, uint64_t size, int code, int bits) {
  return aligned_alloc(64, size / 64 * 64 + 64);
}

static int release(int device_type, int device_id, void* workspace) {
  free(workspace);
  return 0;
}

int (*__TVMBackendParallelLaunch)(Task, void*, int) = launch;
void* (*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = allocate;
int (*__TVMBackendFreeWorkspace)(int, int, void*) = release;

void TVMFFIErrorSetRaisedFromCStrParts(const char* kind, const char** parts, int32_t num_parts) {
  fprintf(stderr, "%s: ", kind);
  for (int i = 0; i < num_parts; ++i) fputs(parts[i] ? parts[i] : "", stderr);
}

static void take(void* to, size_t size) {
  if (fread(to, 1, size, stdin) != size) exit(3);
}

static int64_t number(void) {
  int64_t value;
  take(&value, sizeof value);
  return value;
}

static size_t size_of(const DLTensor* tensor) {
  size_t size = tensor->dtype.bits / 8;
  for (int i = 0; i < tensor->ndim; ++i) size *= tensor->shape[i];
  return size;
}

static DLTensor* tensor(void) {
  DLTensor* it = calloc(1, sizeof *it);
  it->device.device_type = kDLCPU;
  it->dtype.code = number();
  it->dtype.bits = number();
  it->dtype.lanes = 1;
  it->ndim = number();
  it->shape = calloc(2 * it->ndim, sizeof(int64_t));
  it->strides = it->shape + it->ndim;
  for (int i = 0; i < it->ndim; ++i) it->shape[i] = number();
  for (int64_t i = it->ndim - 1, stride = 1; i >= 0; stride *= it->shape[i--]) it->strides[i] = stride;
  it->data = aligned_alloc(64, size_of(it) / 64 * 64 + 64);
  take(it->data, size_of(it));
  return it;
}

static TVMFFISafeCallType find(const char* wanted) {
#define COMPARE(name) \
  if (strcmp(wanted, #name) == 0) return __tvm_ffi_##name;
  KERNELS(COMPARE)
  exit(3);
}

int main(int argc, char** argv) {
  TVMFFIAny args[MOST] = {0}, result = {0};
  int32_t count = number();
  if (argc != 2 || count > MOST) return 3;
  for (int i = 0; i < count; ++i) {
    args[i].type_index = number() ? kTVMFFIDLTensorPtr : kTVMFFIInt;
    if (args[i].type_index == kTVMFFIInt) {
      args[i].v_int64 = number();
    } else {
      args[i].v_ptr = tensor();
    }
  }
  if (find(argv[1])(NULL, args, count, &result) != 0) return 2;
  for (int i = 0; i < count; ++i) {
    const DLTensor* it = args[i].v_ptr;
    if (args[i].type_index == kTVMFFIDLTensorPtr) fwrite(it->data, 1, size_of(it), stdout);
  }
  return 0;
}
