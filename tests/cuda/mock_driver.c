/* A stand-in for libcuda.so.1: host memory as device memory, every call noted, and kernels handed to
   a function that the test sets (the emulator), with another one that is asked whether the kernel
   of a stream still runs. Copies, fills and launches can be recorded as a graph. What is not given
   back is counted. Nothing of CUDA is needed to build it. */
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
typedef int (*kernel)(const char *entry, unsigned grid, unsigned block, unsigned shared, unsigned cluster, unsigned cooperative, void **arguments, handle stream);
typedef int (*waiter)(handle stream, int until_done);

#define ROOM (1 << 20)
#define PARAMETERS 8
enum kind { LAUNCH, TO_DEVICE, TO_HOST, FILL };
struct work {
  enum kind kind;
  struct { char entry[128]; unsigned grid, block, shared, cluster, cooperative; uint64_t values[PARAMETERS]; } launch;
  char *to; const char *from; size_t size; int value;
  struct work *next;
};
static char notes[ROOM];
static size_t used;
static kernel run;
static waiter wait_for;
static int fails_at_code, capability[2] = {9, 0}, processors = 132, watchdog;
static char fails_at[64];
static struct { char *start; size_t size; int is_host; } memory[4096];
static int pieces;
static struct work *recorded;
static handle recording;
static char entries[256][128];
static int entry_count;
/* Streams, graphs, modules and events that live; handles count on from 0x100. */
static char living[1 << 16];
static int handles = 0x100;
static struct work *graphs[1 << 16];

static handle born(void) { living[handles] = 1; return (handle)(uintptr_t)handles++; }
static int dies(handle which) {
  if (!living[(uintptr_t)which]) return 400;
  living[(uintptr_t)which] = 0;
  return 0;
}

static int note(const char *name, const char *detail) {
  used += (size_t)snprintf(notes + used, ROOM - used, "%s%s%s\n", name, *detail ? " " : "", detail);
  if (used > ROOM - 512) used = ROOM - 512;
  return strcmp(name, fails_at) == 0 ? fails_at_code : 0;
}
#define PLAIN(name) { return note(#name, ""); }

const char *mock_notes(void) { return notes; }
void mock_clear(void) { used = 0; notes[0] = 0; }
void mock_kernel(kernel function, waiter other) { run = function; wait_for = other; }
void mock_fail(const char *name, int code) { snprintf(fails_at, sizeof fails_at, "%s", name); fails_at_code = code; }
void mock_device(int major, int minor, int count) { capability[0] = major; capability[1] = minor; processors = count; }
void mock_watchdog(int is_on) { watchdog = is_on; }
int mock_live(void) { int live = 0; for (int i = 0; i < pieces; i++) live += memory[i].start != NULL; return live; }
int mock_handles(void) { int live = 0; for (int i = 0; i < handles; i++) live += living[i]; return live; }
int mock_is_host(address at) {
  for (int i = 0; i < pieces; i++)
    if (memory[i].start && (char *)at >= memory[i].start && (char *)at < memory[i].start + memory[i].size) return memory[i].is_host;
  return 0;
}
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

static void *take(size_t size, int is_host) {
  void *place = aligned_alloc(256, (size + 255) / 256 * 256);
  memset(place, 0xEE, size);
  int i = 0;
  while (i < pieces && memory[i].start) i++;
  if (i == pieces) pieces++;
  memory[i].start = place; memory[i].size = size; memory[i].is_host = is_host;
  return place;
}
static int give(void *place) {
  for (int i = 0; i < pieces; i++)
    if (memory[i].start == place) { memory[i].start = NULL; free(place); return 0; }
  return 1;
}

int cuInit(unsigned flags) { (void)flags; PLAIN(cuInit) }
int cuDriverGetVersion(int *version) { *version = 13000; PLAIN(cuDriverGetVersion) }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; PLAIN(cuDeviceGet) }
int cuDeviceGetName(char *name, int room, int device) { (void)device; snprintf(name, (size_t)room, "Mock GPU"); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  (void)device;
  *value = attribute == 75 ? capability[0] : attribute == 76 ? capability[1] : attribute == 16 ? processors : attribute == 17 ? watchdog : 232448;
  return 0;
}
int cuDevicePrimaryCtxRetain(handle *context, int device) { (void)device; *context = (handle)0x11; PLAIN(cuDevicePrimaryCtxRetain) }
int cuCtxSetCurrent(handle context) { (void)context; return 0; }
int cuModuleLoadData(handle *module, const char *image) {
  int is_elf = memcmp(image, "\177ELF", 4) == 0;
  if (!is_elf && !strstr(image, ".version")) return 200;
  *module = born();
  return note("cuModuleLoadData", is_elf ? "cubin" : "ptx");
}
int cuModuleUnload(handle module) { int code = note("cuModuleUnload", ""); return code ? code : dies(module); }
int cuModuleGetFunction(handle *function, handle module, const char *name) {
  (void)module;
  if (entry_count == 256) return 1;
  snprintf(entries[entry_count], 128, "%s", name);
  *function = (handle)(uintptr_t)(0x100000 + entry_count++);
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
int cuMemAlloc_v2(address *place, size_t size) {
  int code = note("cuMemAlloc", "");
  if (!code) *place = (address)(uintptr_t)take(size, 0);
  return code;
}
int cuMemFree_v2(address place) { int code = note("cuMemFree", ""); return code ? code : give((void *)(uintptr_t)place); }
int cuMemHostAlloc(handle *place, size_t size, unsigned flags) {
  char text[32];
  snprintf(text, sizeof text, "flags=%u", flags);
  int code = note("cuMemHostAlloc", text);
  if (!code) *place = take(size, 1);
  return code;
}
int cuMemFreeHost(handle place) { int code = note("cuMemFreeHost", ""); return code ? code : give(place); }
int cuMemHostGetDevicePointer_v2(address *place, handle host, unsigned flags) { (void)flags; *place = (address)(uintptr_t)host; return 0; }

static int perform(const struct work *w, handle stream) {
  void *arguments[PARAMETERS];
  switch (w->kind) {
  case LAUNCH:
    for (int i = 0; i < PARAMETERS; i++) arguments[i] = (void *)&w->launch.values[i];
    return run ? run(w->launch.entry, w->launch.grid, w->launch.block, w->launch.shared, w->launch.cluster, w->launch.cooperative, arguments, stream) : 0;
  case FILL: memset(w->to, w->value, w->size); return 0;
  default: memcpy(w->to, w->from, w->size); return 0;
  }
}
/* Do it now, or keep it where the stream is being recorded. */
static int take_up(const char *name, const char *detail, struct work w, handle stream) {
  char text[320];
  int is_kept = recording && recording == stream;
  snprintf(text, sizeof text, "%s%s", detail, is_kept ? *detail ? " recorded" : "recorded" : "");
  int code = note(name, text);
  if (code) return code;
  if (!is_kept) return perform(&w, stream);
  struct work **last = &recorded;
  while (*last) last = &(*last)->next;
  *last = malloc(sizeof w);
  **last = w;
  return 0;
}
int cuMemcpyHtoDAsync_v2(address to, const void *from, size_t size, handle stream) {
  if (room_at(to) < size) return 1;
  return take_up("cuMemcpyHtoD", "", (struct work){.kind = TO_DEVICE, .to = (char *)(uintptr_t)to, .from = from, .size = size}, stream);
}
int cuMemcpyDtoHAsync_v2(void *to, address from, size_t size, handle stream) {
  if (room_at(from) < size) return 1;
  return take_up("cuMemcpyDtoH", "", (struct work){.kind = TO_HOST, .to = to, .from = (const char *)(uintptr_t)from, .size = size}, stream);
}
int cuMemsetD8Async(address place, unsigned char value, size_t size, handle stream) {
  if (room_at(place) < size) return 1;
  return take_up("cuMemset", "", (struct work){.kind = FILL, .to = (char *)(uintptr_t)place, .size = size, .value = value}, stream);
}
int cuStreamCreate(handle *stream, unsigned flags) {
  char text[32];
  snprintf(text, sizeof text, "flags=%u", flags);
  int code = note("cuStreamCreate", text);
  if (!code) *stream = born();
  return code;
}
int cuStreamDestroy_v2(handle stream) { int code = note("cuStreamDestroy", ""); return code ? code : dies(stream); }
int cuStreamSynchronize(handle stream) {
  int code = note("cuStreamSynchronize", "");
  return code ? code : wait_for && stream ? wait_for(stream, 1) : 0;
}
int cuStreamQuery(handle stream) { return wait_for && stream ? wait_for(stream, 0) : 0; }
int cuEventCreate(handle *event, unsigned flags) { (void)flags; *event = born(); return 0; }
int cuEventRecord(handle event, handle stream) { (void)event; (void)stream; return 0; }
int cuEventSynchronize(handle event) { (void)event; return 0; }
int cuEventElapsedTime(float *ms, handle a, handle b) { (void)a; (void)b; *ms = 1.0f; return 0; }
int cuEventDestroy_v2(handle event) { return dies(event); }

static int start(const char *name, handle function, unsigned grid, unsigned block, unsigned shared, unsigned cluster, unsigned cooperative, void **arguments, handle stream) {
  char text[256];
  const char *entry = entries[(uintptr_t)function - 0x100000];
  snprintf(text, sizeof text, "%s grid=%u block=%u shared=%u cluster=%u cooperative=%u", entry, grid, block, shared, cluster, cooperative);
  struct work w = {.kind = LAUNCH, .launch = {.grid = grid, .block = block, .shared = shared, .cluster = cluster, .cooperative = cooperative}};
  snprintf(w.launch.entry, sizeof w.launch.entry, "%s", entry);
  /* The driver copies the values of arguments, not where they stand. */
  for (int i = 0; i < PARAMETERS; i++) w.launch.values[i] = i < 6 ? *(uint64_t *)arguments[i] : *(uint32_t *)arguments[i];
  return take_up(name, text, w, stream);
}
int cuLaunchKernel(handle function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, handle stream, void **arguments, void **extra) {
  (void)gy; (void)gz; (void)by; (void)bz; (void)extra;
  return start("cuLaunchKernel", function, gx, bx, shared, 1, 0, arguments, stream);
}
int cuLaunchKernelEx(const struct config *c, handle function, void **arguments, void **extra) {
  unsigned cluster = 1, cooperative = 0; (void)extra;
  for (unsigned i = 0; i < c->count; i++) {
    if (c->attributes[i].id == 4) cluster = c->attributes[i].value.cluster.x;
    if (c->attributes[i].id == 2) cooperative = (unsigned)c->attributes[i].value.cooperative;
  }
  return start("cuLaunchKernelEx", function, c->grid.x, c->block.x, c->shared, cluster, cooperative, arguments, c->stream);
}
int cuStreamBeginCapture_v2(handle stream, int mode) { (void)mode; recording = stream; recorded = NULL; PLAIN(cuStreamBeginCapture) }
int cuStreamEndCapture(handle stream, handle *graph) {
  (void)stream;
  recording = NULL;
  *graph = born();
  graphs[(uintptr_t)*graph] = recorded;
  PLAIN(cuStreamEndCapture)
}
int cuGraphInstantiateWithFlags(handle *ready, handle graph, unsigned long long flags) {
  (void)flags;
  int code = note("cuGraphInstantiate", "");
  if (code) return code;
  *ready = born();
  graphs[(uintptr_t)*ready] = graphs[(uintptr_t)graph];
  return 0;
}
int cuGraphLaunch(handle ready, handle stream) {
  char text[256] = "";
  for (struct work *w = graphs[(uintptr_t)ready]; w; w = w->next)
    snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", *text ? ", " : "", w->kind == LAUNCH ? w->launch.entry : w->kind == TO_DEVICE ? "to device" : "to host");
  int code = note("cuGraphLaunch", text);
  if (!living[(uintptr_t)ready]) return 400;
  for (struct work *w = graphs[(uintptr_t)ready]; w && !code; w = w->next) code = perform(w, stream);
  return code;
}
int cuGraphExecDestroy(handle ready) {
  for (struct work *w = graphs[(uintptr_t)ready], *next; w; w = next) { next = w->next; free(w); }
  graphs[(uintptr_t)ready] = NULL;
  int code = note("cuGraphExecDestroy", "");
  return code ? code : dies(ready);
}
int cuGraphDestroy(handle graph) { int code = note("cuGraphDestroy", ""); return code ? code : dies(graph); }
int cuGetErrorName(int code, const char **name) {
  static const struct { int code; const char *name; } known[] = {
    {1, "CUDA_ERROR_INVALID_VALUE"}, {2, "CUDA_ERROR_OUT_OF_MEMORY"}, {100, "CUDA_ERROR_NO_DEVICE"},
    {200, "CUDA_ERROR_INVALID_IMAGE"}, {209, "CUDA_ERROR_NO_BINARY_FOR_GPU"}, {700, "CUDA_ERROR_ILLEGAL_ADDRESS"}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) if (known[i].code == code) *name = known[i].name;
  return 0;
}
int cuGetErrorString(int code, const char **text) { if (code == 2) *text = "out of memory"; return 0; }
