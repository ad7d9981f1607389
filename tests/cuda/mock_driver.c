/* A stand-in for libcuda.so.1: host memory as device memory, every call noted, and kernels handed to
   a function that the test sets (the emulator). Nothing of CUDA is needed to build it. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void *handle;
typedef uint64_t address;
struct dimension { unsigned x, y, z; };
struct attribute { unsigned id; char padding[4]; union { char bytes[64]; struct dimension cluster; int cooperative; } value; };
struct config { struct dimension grid, block; unsigned shared; handle stream; struct attribute *attributes; unsigned count; };
typedef int (*kernel)(const char *entry, unsigned grid, unsigned block, unsigned shared, unsigned cluster, unsigned cooperative, void **arguments);

#define ROOM (1 << 20)
static char notes[ROOM];
static size_t used;
static kernel run;
static int fails_at_code, capability[2] = {9, 0}, processors = 132;
static char fails_at[64];
static struct { char *start; size_t size; } memory[4096];
static int pieces;
static struct { char entry[128]; unsigned grid, block, shared, cluster, cooperative; void *pointers; } recorded;
static int recording;
static char entries[64][128];
static int entry_count;

static int note(const char *name, const char *detail) {
  used += (size_t)snprintf(notes + used, ROOM - used, "%s%s%s\n", name, *detail ? " " : "", detail);
  if (used > ROOM - 512) used = ROOM - 512;
  return strcmp(name, fails_at) == 0 ? fails_at_code : 0;
}
#define PLAIN(name) { return note(#name, ""); }

const char *mock_notes(void) { return notes; }
void mock_clear(void) { used = 0; notes[0] = 0; }
void mock_kernel(kernel function) { run = function; }
void mock_fail(const char *name, int code) { snprintf(fails_at, sizeof fails_at, "%s", name); fails_at_code = code; }
void mock_device(int major, int minor, int count) { capability[0] = major; capability[1] = minor; processors = count; }
int mock_live(void) { int live = 0; for (int i = 0; i < pieces; i++) live += memory[i].start != NULL; return live; }
/* The piece of memory that an address is in: its size, 0 where it is nobody's, and its start. */
size_t mock_piece(address at, address *start) {
  for (int i = 0; i < pieces; i++)
    if (memory[i].start && (char *)at >= memory[i].start && (char *)at < memory[i].start + memory[i].size) {
      *start = (address)(uintptr_t)memory[i].start;
      return memory[i].size;
    }
  return 0;
}
static size_t room_at(address at) {
  address start = at;
  size_t size = mock_piece(at, &start);
  return size - (size_t)(at - start);
}

static void *take(size_t size) {
  void *place = aligned_alloc(256, (size + 255) / 256 * 256);
  memset(place, 0xEE, size);
  memory[pieces].start = place; memory[pieces++].size = size;
  return place;
}
static void give(void *place) {
  for (int i = 0; i < pieces; i++) if (memory[i].start == place) memory[i].start = NULL;
  free(place);
}

int cuInit(unsigned flags) { (void)flags; PLAIN(cuInit) }
int cuDriverGetVersion(int *version) { *version = 13000; PLAIN(cuDriverGetVersion) }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; PLAIN(cuDeviceGet) }
int cuDeviceGetName(char *name, int room, int device) { (void)device; snprintf(name, (size_t)room, "Mock GPU"); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  (void)device;
  *value = attribute == 75 ? capability[0] : attribute == 76 ? capability[1] : attribute == 16 ? processors : 232448;
  return 0;
}
int cuDevicePrimaryCtxRetain(handle *context, int device) { (void)device; *context = (handle)0x11; PLAIN(cuDevicePrimaryCtxRetain) }
int cuCtxSetCurrent(handle context) { (void)context; return 0; }
int cuModuleLoadData(handle *module, const char *image) {
  int is_elf = memcmp(image, "\177ELF", 4) == 0;
  *module = (handle)0x22;
  if (!is_elf && !strstr(image, ".version")) return 200;
  return note("cuModuleLoadData", is_elf ? "cubin" : "ptx");
}
int cuModuleUnload(handle module) { (void)module; PLAIN(cuModuleUnload) }
int cuModuleGetFunction(handle *function, handle module, const char *name) {
  (void)module;
  snprintf(entries[entry_count], 128, "%s", name);
  *function = (handle)(uintptr_t)(0x1000 + entry_count++);
  return note("cuModuleGetFunction", name);
}
int cuFuncSetAttribute(handle function, int attribute, int value) {
  char text[64]; (void)function;
  snprintf(text, sizeof text, "%d=%d", attribute, value);
  return note("cuFuncSetAttribute", text);
}
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *count, handle function, int block, size_t shared) {
  (void)function; (void)block; (void)shared; *count = 1; PLAIN(cuOccupancyMaxActiveBlocksPerMultiprocessor)
}
int cuMemAlloc_v2(address *place, size_t size) { *place = (address)(uintptr_t)take(size); PLAIN(cuMemAlloc) }
int cuMemFree_v2(address place) { give((void *)(uintptr_t)place); PLAIN(cuMemFree) }
int cuMemHostAlloc(handle *place, size_t size, unsigned flags) { (void)flags; *place = take(size); PLAIN(cuMemHostAlloc) }
int cuMemFreeHost(handle place) { give(place); PLAIN(cuMemFreeHost) }
int cuMemHostGetDevicePointer_v2(address *place, handle host, unsigned flags) { (void)flags; *place = (address)(uintptr_t)host; return 0; }
int cuMemcpyHtoDAsync_v2(address to, const void *from, size_t size, handle stream) {
  (void)stream;
  if (room_at(to) < size) return 1;
  memcpy((void *)(uintptr_t)to, from, size); PLAIN(cuMemcpyHtoD)
}
int cuMemcpyDtoHAsync_v2(void *to, address from, size_t size, handle stream) {
  (void)stream;
  if (room_at(from) < size) return 1;
  memcpy(to, (void *)(uintptr_t)from, size); PLAIN(cuMemcpyDtoH)
}
int cuMemsetD8Async(address place, unsigned char value, size_t size, handle stream) {
  (void)stream;
  if (room_at(place) < size) return 1;
  memset((void *)(uintptr_t)place, value, size); PLAIN(cuMemset)
}
int cuStreamCreate(handle *stream, unsigned flags) { (void)flags; *stream = (handle)0x33; PLAIN(cuStreamCreate) }
int cuStreamDestroy_v2(handle stream) { (void)stream; PLAIN(cuStreamDestroy) }
int cuStreamSynchronize(handle stream) { (void)stream; PLAIN(cuStreamSynchronize) }
int cuEventCreate(handle *event, unsigned flags) { (void)flags; *event = (handle)0x44; return 0; }
int cuEventRecord(handle event, handle stream) { (void)event; (void)stream; return 0; }
int cuEventSynchronize(handle event) { (void)event; return 0; }
int cuEventElapsedTime(float *ms, handle a, handle b) { (void)a; (void)b; *ms = 1.0f; return 0; }
int cuEventDestroy_v2(handle event) { (void)event; return 0; }

static int start(const char *name, handle function, unsigned grid, unsigned block, unsigned shared, unsigned cluster, unsigned cooperative, void **arguments) {
  char text[256];
  const char *entry = entries[(uintptr_t)function - 0x1000];
  snprintf(text, sizeof text, "%s grid=%u block=%u shared=%u cluster=%u cooperative=%u%s", entry, grid, block, shared, cluster, cooperative, recording ? " recorded" : "");
  int code = note(name, text);
  if (code) return code;
  if (recording) {
    snprintf(recorded.entry, sizeof recorded.entry, "%s", entry);
    recorded.grid = grid; recorded.block = block; recorded.shared = shared; recorded.cluster = cluster;
    recorded.cooperative = cooperative;
    /* The driver copies the values of arguments, not where they stand. */
    static uint64_t values[8]; static void *places[8];
    for (int i = 0; i < 8; i++) { values[i] = i < 6 ? *(uint64_t *)arguments[i] : *(uint32_t *)arguments[i]; places[i] = &values[i]; }
    recorded.pointers = places;
    return 0;
  }
  return run ? run(entry, grid, block, shared, cluster, cooperative, arguments) : 0;
}
int cuLaunchKernel(handle function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, handle stream, void **arguments, void **extra) {
  (void)gy; (void)gz; (void)by; (void)bz; (void)stream; (void)extra;
  return start("cuLaunchKernel", function, gx, bx, shared, 1, 0, arguments);
}
int cuLaunchKernelEx(const struct config *c, handle function, void **arguments, void **extra) {
  unsigned cluster = 1, cooperative = 0; (void)extra;
  for (unsigned i = 0; i < c->count; i++) {
    if (c->attributes[i].id == 4) cluster = c->attributes[i].value.cluster.x;
    if (c->attributes[i].id == 2) cooperative = (unsigned)c->attributes[i].value.cooperative;
  }
  return start("cuLaunchKernelEx", function, c->grid.x, c->block.x, c->shared, cluster, cooperative, arguments);
}
int cuStreamBeginCapture_v2(handle stream, int mode) { (void)stream; (void)mode; recording = 1; PLAIN(cuStreamBeginCapture) }
int cuStreamEndCapture(handle stream, handle *graph) { (void)stream; recording = 0; *graph = (handle)0x55; PLAIN(cuStreamEndCapture) }
int cuGraphInstantiateWithFlags(handle *ready, handle graph, unsigned long long flags) { (void)graph; (void)flags; *ready = (handle)0x66; PLAIN(cuGraphInstantiate) }
int cuGraphLaunch(handle ready, handle stream) {
  (void)ready; (void)stream;
  int code = note("cuGraphLaunch", recorded.entry);
  if (code) return code;
  return run ? run(recorded.entry, recorded.grid, recorded.block, recorded.shared, recorded.cluster, recorded.cooperative, recorded.pointers) : 0;
}
int cuGraphExecDestroy(handle ready) { (void)ready; PLAIN(cuGraphExecDestroy) }
int cuGraphDestroy(handle graph) { (void)graph; PLAIN(cuGraphDestroy) }
int cuGetErrorName(int code, const char **name) {
  static const struct { int code; const char *name; } known[] = {
    {1, "CUDA_ERROR_INVALID_VALUE"}, {2, "CUDA_ERROR_OUT_OF_MEMORY"}, {100, "CUDA_ERROR_NO_DEVICE"},
    {200, "CUDA_ERROR_INVALID_IMAGE"}, {209, "CUDA_ERROR_NO_BINARY_FOR_GPU"}, {700, "CUDA_ERROR_ILLEGAL_ADDRESS"}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) if (known[i].code == code) *name = known[i].name;
  return 0;
}
