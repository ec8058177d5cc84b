// A stand-in for the NVIDIA driver, for tests of code that drives a GPU, on a machine without one.
//
// It keeps to what CUDA promises and to nothing more, so that code which works by luck fails here:
// - device addresses are tagged, so that the host cannot follow one; every copy is checked against its allocation;
// - work in a stream is only noted, and runs when somebody waits for it, up to the event that is waited for: whoever
//   reads a result without waiting reads what was there before;
// - a copy beside other work must have page-locked memory on the host; memory may be freed while work that uses it
//   waits, which that work then runs into;
// - every call but the first few needs a context that is current in the calling thread;
// - any call can be told to fail, once or for good, and any piece of work; what is not given back is counted.
//
// It computes nothing, says nothing about a GPU, and names itself FAKE, which the product refuses. The functions named
// fake... are for the tests.

#include <cuda.h>
#include <cudaProfiler.h>

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace {

constexpr uint64_t kTag = 1ull << 62;
constexpr uint64_t kDefaultCapacity = 8ull << 30;

using Work = std::function<CUresult()>;

struct Stream {
    unsigned flags = 0;
    std::deque<Work> waiting;
    bool running = false;
    bool capturing = false;
    bool spoiled = false;
    std::vector<Work> captured;
};

struct Event {
    Stream *stream = nullptr;
    uint64_t recorded = 0;
    uint64_t done = 0;
};

struct Graph {
    std::vector<Work> work;
    bool uploaded = false;
};

struct Fault {
    long calls_left;
    CUresult code;
    bool lasts;
};

std::mutex lock;
std::condition_variable changed;
std::map<uint64_t, size_t> device_memory;
std::map<uint64_t, size_t> host_memory;
std::set<Stream *> streams;
std::set<Event *> events;
std::set<Graph *> graphs;
std::set<Graph *> executables;
std::map<std::string, Fault> faults;
std::map<std::string, long> calls;
Fault work_fault{0, CUDA_SUCCESS, false};
Stream null_stream;
uint64_t capacity = kDefaultCapacity;
uint64_t used = 0;
uint64_t gone = 0;  // of it what went with its context, whoever believes to hold it still
uint64_t host_capacity = kDefaultCapacity;
uint64_t host_used = 0;
long allocations = 0;
long retained = 0;
long abandoned = 0;
CUresult dead = CUDA_SUCCESS;
int the_context;

thread_local std::vector<CUcontext> current;
thread_local Stream *capture = nullptr;

enum Needs { kNothing, kContext, kNoCapture };

// What every call begins with: counted, made to fail where a test wants it, refused without a context, on a lost
// device, and where a capture must not see it. The caller holds the lock.
CUresult enter(const char *name, Needs needs) {
    calls[name]++;
    auto fault = faults.find(name);
    if (fault != faults.end() && --fault->second.calls_left == 0) {
        CUresult code = fault->second.code;
        if (fault->second.lasts) dead = code;
        faults.erase(fault);
        return code;
    }
    if (dead != CUDA_SUCCESS) return dead;
    if (needs != kNothing && (current.empty() || retained == 0)) return CUDA_ERROR_INVALID_CONTEXT;
    if (needs == kNoCapture && capture != nullptr) {
        capture->spoiled = true;
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    return CUDA_SUCCESS;
}

#define ENTER(name, needs)                                      \
    std::unique_lock<std::mutex> held(lock);                    \
    if (CUresult refused = enter(#name, needs)) return refused

bool lies_in(const std::map<uint64_t, size_t> &memory, uint64_t address, size_t size) {
    auto next = memory.upper_bound(address);
    if (next == memory.begin()) return false;
    auto found = std::prev(next);
    return address + size <= found->first + found->second;
}

Stream *stream_of(CUstream handle) { return handle == nullptr ? &null_stream : reinterpret_cast<Stream *>(handle); }

bool known(Stream *stream) { return stream == &null_stream || streams.count(stream) != 0; }

CUresult enqueue(CUstream handle, Work work) {
    Stream *stream = stream_of(handle);
    if (!known(stream)) return CUDA_ERROR_INVALID_HANDLE;
    if (stream->capturing)
        stream->captured.push_back(std::move(work));
    else
        stream->waiting.push_back(std::move(work));
    return CUDA_SUCCESS;
}

// Runs what waits in a stream until enough() or nothing is left, in the calling thread and without the lock: work may
// take long, and may call back into Python.
void run(std::unique_lock<std::mutex> &held, Stream *stream, const std::function<bool()> &enough) {
    while (!enough()) {
        if (stream->running) {
            changed.wait(held);
            continue;
        }
        if (stream->waiting.empty()) return;
        Work work = std::move(stream->waiting.front());
        stream->waiting.pop_front();
        CUresult code = dead;
        if (code == CUDA_SUCCESS && work_fault.calls_left > 0 && --work_fault.calls_left == 0) code = work_fault.code;
        if (code == CUDA_SUCCESS) {
            stream->running = true;
            held.unlock();
            code = work();
            held.lock();
            stream->running = false;
        }
        // What goes wrong on a device goes wrong for its whole context, and is told at the next call.
        if (code != CUDA_SUCCESS && dead == CUDA_SUCCESS) dead = code;
        changed.notify_all();
    }
}

void run_all(std::unique_lock<std::mutex> &held, Stream *stream) {
    run(held, stream, [] { return false; });
}

Work copy(uint64_t target, uint64_t source, size_t size, bool to_device) {
    return [=] {
        std::lock_guard<std::mutex> held(lock);
        if (!lies_in(device_memory, to_device ? target : source, size)) return CUDA_ERROR_ILLEGAL_ADDRESS;
        if (!lies_in(host_memory, to_device ? source : target, size)) return CUDA_ERROR_ILLEGAL_ADDRESS;
        std::memcpy(reinterpret_cast<void *>(target & ~kTag), reinterpret_cast<void *>(source & ~kTag), size);
        return CUDA_SUCCESS;
    };
}

}  // namespace

extern "C" {

// ---------------------------------------------------------------- the device

CUresult cuInit(unsigned) {
    ENTER(cuInit, kNothing);
    return CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int *version) {
    ENTER(cuDriverGetVersion, kNothing);
    *version = 13000;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count) {
    ENTER(cuDeviceGetCount, kNothing);
    *count = 1;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    ENTER(cuDeviceGet, kNothing);
    *device = 0;
    return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceGetName(char *name, int size, CUdevice) {
    ENTER(cuDeviceGetName, kNothing);
    std::strncpy(name, "FAKE device of Millwatch's tests (no GPU)", size);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice) {
    ENTER(cuDeviceGetAttribute, kNothing);
    *value = attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR   ? 8
             : attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR ? 9
                                                                         : 0;
    return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem(size_t *bytes, CUdevice) {
    ENTER(cuDeviceTotalMem, kNothing);
    *bytes = capacity;
    return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult code, const char **text) {
    *text = code == CUDA_ERROR_OUT_OF_MEMORY    ? "out of memory"
            : code == CUDA_ERROR_LAUNCH_FAILED  ? "unspecified launch failure"
            : code == CUDA_ERROR_ILLEGAL_ADDRESS ? "an illegal memory access was encountered"
                                                 : "an error of the fake driver";
    return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult, const char **text) {
    *text = "CUDA_ERROR_FAKE";
    return CUDA_SUCCESS;
}

// ---------------------------------------------------------------- contexts

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice) {
    ENTER(cuDevicePrimaryCtxRetain, kNothing);
    retained++;
    *context = reinterpret_cast<CUcontext>(&the_context);
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice) {
    std::unique_lock<std::mutex> held(lock);
    // On a lost device, too: what a process holds of it is then only its own bookkeeping.
    if (retained > 0 && --retained == 0) gone = used;
    return enter("cuDevicePrimaryCtxRelease", kNothing);
}

CUresult cuCtxPushCurrent(CUcontext context) {
    ENTER(cuCtxPushCurrent, kNothing);
    if (retained == 0) return CUDA_ERROR_INVALID_CONTEXT;
    current.push_back(context);
    return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent(CUcontext *context) {
    ENTER(cuCtxPopCurrent, kNothing);
    if (current.empty()) return CUDA_ERROR_INVALID_CONTEXT;
    if (context != nullptr) *context = current.back();
    current.pop_back();
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *context) {
    ENTER(cuCtxGetCurrent, kNothing);
    *context = current.empty() ? nullptr : current.back();
    return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device) {
    ENTER(cuCtxGetDevice, kContext);
    *device = 0;
    return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize() {
    ENTER(cuCtxSynchronize, kNoCapture);
    run_all(held, &null_stream);
    for (Stream *stream : std::set<Stream *>(streams)) run_all(held, stream);
    return dead;
}

// ---------------------------------------------------------------- memory

CUresult cuMemGetInfo(size_t *available, size_t *total) {
    ENTER(cuMemGetInfo, kContext);
    *available = capacity - (used - std::min(used, gone));
    *total = capacity;
    return CUDA_SUCCESS;
}

CUresult cuMemAlloc(CUdeviceptr *address, size_t size) {
    ENTER(cuMemAlloc, kNoCapture);
    if (size == 0) return CUDA_ERROR_INVALID_VALUE;
    if (used + size > capacity) return CUDA_ERROR_OUT_OF_MEMORY;
    void *memory = std::aligned_alloc(512, (size + 511) / 512 * 512);
    std::memset(memory, 0xCD, size);
    *address = reinterpret_cast<uint64_t>(memory) | kTag;
    device_memory[*address] = size;
    used += size;
    allocations++;
    return CUDA_SUCCESS;
}

CUresult cuMemFree(CUdeviceptr address) {
    ENTER(cuMemFree, kContext);
    auto found = device_memory.find(address);
    if (found == device_memory.end()) return CUDA_ERROR_INVALID_VALUE;
    used -= found->second;
    device_memory.erase(found);
    std::free(reinterpret_cast<void *>(address & ~kTag));
    return CUDA_SUCCESS;
}

CUresult cuMemHostAlloc(void **address, size_t size, unsigned) {
    ENTER(cuMemHostAlloc, kNoCapture);
    if (host_used + size > host_capacity) return CUDA_ERROR_OUT_OF_MEMORY;
    *address = std::aligned_alloc(4096, (size + 4095) / 4096 * 4096);
    std::memset(*address, 0xCD, size);
    host_memory[reinterpret_cast<uint64_t>(*address)] = size;
    host_used += size;
    allocations++;
    return CUDA_SUCCESS;
}

CUresult cuMemFreeHost(void *address) {
    ENTER(cuMemFreeHost, kContext);
    auto found = host_memory.find(reinterpret_cast<uint64_t>(address));
    if (found == host_memory.end()) return CUDA_ERROR_INVALID_VALUE;
    host_used -= found->second;
    host_memory.erase(found);
    std::free(address);
    return CUDA_SUCCESS;
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr target, const void *source, size_t size, CUstream stream) {
    ENTER(cuMemcpyHtoDAsync, kContext);
    uint64_t from = reinterpret_cast<uint64_t>(source);
    if (!lies_in(device_memory, target, size) || !lies_in(host_memory, from, size)) return CUDA_ERROR_INVALID_VALUE;
    return enqueue(stream, copy(target, from, size, true));
}

CUresult cuMemcpyDtoHAsync(void *target, CUdeviceptr source, size_t size, CUstream stream) {
    ENTER(cuMemcpyDtoHAsync, kContext);
    uint64_t to = reinterpret_cast<uint64_t>(target);
    if (!lies_in(device_memory, source, size) || !lies_in(host_memory, to, size)) return CUDA_ERROR_INVALID_VALUE;
    return enqueue(stream, copy(to, source, size, false));
}

// ---------------------------------------------------------------- streams and events

CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
    ENTER(cuStreamCreate, kContext);
    Stream *made = new Stream;
    made->flags = flags;
    streams.insert(made);
    *stream = reinterpret_cast<CUstream>(made);
    return CUDA_SUCCESS;
}

CUresult cuStreamGetFlags(CUstream handle, unsigned *flags) {
    ENTER(cuStreamGetFlags, kContext);
    Stream *stream = stream_of(handle);
    if (!known(stream)) return CUDA_ERROR_INVALID_HANDLE;
    *flags = stream->flags;
    return CUDA_SUCCESS;
}

CUresult cuStreamDestroy(CUstream handle) {
    ENTER(cuStreamDestroy, kContext);
    Stream *stream = stream_of(handle);
    if (!known(stream)) return CUDA_ERROR_INVALID_HANDLE;
    // CUDA would let its work end, perhaps in memory that is freed by then: that nobody waited for it is what counts.
    if (dead == CUDA_SUCCESS) abandoned += stream->waiting.size();
    streams.erase(stream);
    delete stream;
    return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream handle) {
    ENTER(cuStreamSynchronize, kNoCapture);
    Stream *stream = stream_of(handle);
    if (!known(stream)) return CUDA_ERROR_INVALID_HANDLE;
    run_all(held, stream);
    return dead;
}

// The stand-in for a kernel: what the tests' engines compute.
CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void *argument) {
    ENTER(cuLaunchHostFunc, kContext);
    return enqueue(stream, [=] {
        function(argument);
        return CUDA_SUCCESS;
    });
}

CUresult cuEventCreate(CUevent *event, unsigned) {
    ENTER(cuEventCreate, kContext);
    Event *made = new Event;
    events.insert(made);
    *event = reinterpret_cast<CUevent>(made);
    return CUDA_SUCCESS;
}

CUresult cuEventDestroy(CUevent handle) {
    ENTER(cuEventDestroy, kContext);
    // The object stays: work that waits may still mark it.
    return events.erase(reinterpret_cast<Event *>(handle)) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuEventRecord(CUevent handle, CUstream stream) {
    ENTER(cuEventRecord, kContext);
    Event *event = reinterpret_cast<Event *>(handle);
    if (events.count(event) == 0) return CUDA_ERROR_INVALID_HANDLE;
    uint64_t number = ++event->recorded;
    event->stream = stream_of(stream);
    return enqueue(stream, [=] {
        std::lock_guard<std::mutex> held(lock);
        event->done = number;
        return CUDA_SUCCESS;
    });
}

CUresult cuEventSynchronize(CUevent handle) {
    ENTER(cuEventSynchronize, kNoCapture);
    Event *event = reinterpret_cast<Event *>(handle);
    if (events.count(event) == 0) return CUDA_ERROR_INVALID_HANDLE;
    uint64_t number = event->recorded;
    if (event->stream != nullptr) run(held, event->stream, [=] { return event->done >= number; });
    return dead;
}

// ---------------------------------------------------------------- graphs

CUresult cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode) {
    ENTER(cuStreamBeginCapture, kContext);
    Stream *stream = stream_of(handle);
    if (!known(stream) || stream->capturing || capture != nullptr) return CUDA_ERROR_ILLEGAL_STATE;
    stream->capturing = true;
    stream->spoiled = false;
    stream->captured.clear();
    capture = stream;
    return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph *graph) {
    Stream *stream = stream_of(handle);
    std::unique_lock<std::mutex> held(lock);
    bool was = known(stream) && stream->capturing;
    if (was) {
        stream->capturing = false;
        capture = nullptr;
    }
    *graph = nullptr;
    if (CUresult refused = enter("cuStreamEndCapture", kContext)) return refused;
    if (!was) return CUDA_ERROR_ILLEGAL_STATE;
    if (stream->spoiled) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    Graph *made = new Graph{std::move(stream->captured)};
    graphs.insert(made);
    *graph = reinterpret_cast<CUgraph>(made);
    return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *executable, CUgraph handle, unsigned long long) {
    ENTER(cuGraphInstantiateWithFlags, kContext);
    Graph *graph = reinterpret_cast<Graph *>(handle);
    if (graphs.count(graph) == 0) return CUDA_ERROR_INVALID_VALUE;
    Graph *made = new Graph(*graph);
    executables.insert(made);
    *executable = reinterpret_cast<CUgraphExec>(made);
    return CUDA_SUCCESS;
}

CUresult cuGraphUpload(CUgraphExec handle, CUstream stream) {
    ENTER(cuGraphUpload, kNoCapture);
    Graph *graph = reinterpret_cast<Graph *>(handle);
    if (executables.count(graph) == 0) return CUDA_ERROR_INVALID_VALUE;
    if (!graph->uploaded) allocations++;
    graph->uploaded = true;
    return enqueue(stream, [] { return CUDA_SUCCESS; });
}

CUresult cuGraphLaunch(CUgraphExec handle, CUstream stream) {
    ENTER(cuGraphLaunch, kContext);
    Graph *graph = reinterpret_cast<Graph *>(handle);
    if (executables.count(graph) == 0) return CUDA_ERROR_INVALID_VALUE;
    // A graph that was not uploaded is so now, into memory that is taken for it.
    if (!graph->uploaded) allocations++;
    graph->uploaded = true;
    for (const Work &work : graph->work)
        if (CUresult code = enqueue(stream, work)) return code;
    return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec handle) {
    ENTER(cuGraphExecDestroy, kContext);
    return executables.erase(reinterpret_cast<Graph *>(handle)) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphDestroy(CUgraph handle) {
    ENTER(cuGraphDestroy, kContext);
    return graphs.erase(reinterpret_cast<Graph *>(handle)) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

// ---------------------------------------------------------------- for the tests

// Forget everything that was ever done, as a new process would.
void fakeReset() {
    std::lock_guard<std::mutex> held(lock);
    device_memory.clear();
    host_memory.clear();
    streams.clear();
    events.clear();
    graphs.clear();
    executables.clear();
    faults.clear();
    calls.clear();
    work_fault = {0, CUDA_SUCCESS, false};
    null_stream = Stream();
    capacity = host_capacity = kDefaultCapacity;
    used = gone = host_used = 0;
    allocations = retained = abandoned = 0;
    dead = CUDA_SUCCESS;
    current.clear();
    capture = nullptr;
}

// The call of this name that comes as the given one from now on fails; where it lasts, so does every call after it.
void fakeFail(const char *name, long call, int code, int lasts) {
    std::lock_guard<std::mutex> held(lock);
    faults[name] = {call, static_cast<CUresult>(code), lasts != 0};
}

// The piece of work that runs as the given one from now on fails.
void fakeFailWork(long number, int code) {
    std::lock_guard<std::mutex> held(lock);
    work_fault = {number, static_cast<CUresult>(code), true};
}

// Work that runs tells that it failed.
void fakeFault(int code) {
    std::lock_guard<std::mutex> held(lock);
    if (dead == CUDA_SUCCESS) dead = static_cast<CUresult>(code);
}

void fakeCapacity(uint64_t bytes, uint64_t host_bytes) {
    std::lock_guard<std::mutex> held(lock);
    capacity = bytes;
    host_capacity = host_bytes;
}

// Where device memory really lies, for work that computes on it; null where it is not all of one allocation.
void *fakeMemory(uint64_t address, size_t size) {
    std::lock_guard<std::mutex> held(lock);
    return lies_in(device_memory, address, size) ? reinterpret_cast<void *>(address & ~kTag) : nullptr;
}

// How much there is of: device memory in pieces and bytes, page-locked memory likewise, streams, events, graphs,
// executable graphs, retained contexts, contexts current in this thread, and since the beginning: pieces of work that
// their stream was destroyed with, and allocations.
void fakeCount(long counts[12]) {
    std::lock_guard<std::mutex> held(lock);
    long found[] = {static_cast<long>(device_memory.size()), static_cast<long>(used),
                    static_cast<long>(host_memory.size()),   static_cast<long>(host_used),
                    static_cast<long>(streams.size()),       static_cast<long>(events.size()),
                    static_cast<long>(graphs.size()),        static_cast<long>(executables.size()),
                    retained,                                static_cast<long>(current.size()),
                    abandoned,                               allocations};
    std::memcpy(counts, found, sizeof found);
}

// Names of the calls so far and how often each came, one to a line; returns how long the whole list is.
size_t fakeCalls(char *text, size_t size) {
    std::lock_guard<std::mutex> held(lock);
    std::string list;
    for (const auto &[name, count] : calls) list += name + " " + std::to_string(count) + "\n";
    std::strncpy(text, list.c_str(), size);
    return list.size();
}

}  // extern "C"
