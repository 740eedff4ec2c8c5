/* NVML's C interface over a small file, so that NVIDIA's own Python bindings can be tested without a GPU.
 *
 * FAKE_NVML names the file; it is read again whenever it has changed. One setting a line:
 *   cards 8            how many GPUs
 *   driver 9           every call returns this error
 *   card 3 15          every call on GPU 3 returns this error
 *   call power 4       this group of calls returns this error, on every GPU
 *   hang 1             calls on GPUs never return
 *   mig 1 2            GPU 1 is divided into two MIG instances
 *   set power 2 250000 a figure of GPU 2
 *   xid 0 79           GPU 0 reports this Xid error, once
 * Each nvmlInit is noted in the file of that name with ".begun" behind it.
 * Signatures and structures: https://docs.nvidia.com/deploy/nvml-api/
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST 16
#define SUCCESS 0
#define INVALID 2
#define NOT_SUPPORTED 3
#define NOT_FOUND 6
#define INSUFFICIENT_SIZE 7
#define TIMEOUT 10

typedef struct { int card; int instance; } Device; /* instance -1: the whole card */
typedef unsigned long long u64;

static Device devices[MOST], instances[MOST][MOST];
static int cards, driver, card_error[MOST], mig[MOST], hang;
static u64 xid[MOST];
static struct { char name[32]; int error; } calls[64];
static int n_calls;
static struct { char name[32]; int card; u64 value; } sets[256];
static int n_sets;
static u64 seen;

static void load(void) {
    const char *path = getenv("FAKE_NVML");
    struct stat now;
    char line[256], name[32];
    int card;
    u64 value;
    if (!path || stat(path, &now)) return;
    u64 version = (u64)now.st_mtim.tv_sec * 1000000000ull + now.st_mtim.tv_nsec;
    if (version == seen) return;
    seen = version;
    FILE *file = fopen(path, "r");
    if (!file) return;
    cards = driver = n_calls = n_sets = hang = 0;
    memset(card_error, 0, sizeof card_error);
    memset(mig, 0, sizeof mig);
    memset(xid, 0, sizeof xid);
    while (fgets(line, sizeof line, file)) {
        int error;
        if (sscanf(line, "cards %d", &cards) == 1) continue;
        if (sscanf(line, "driver %d", &driver) == 1) continue;
        if (sscanf(line, "hang %d", &hang) == 1) continue;
        if (sscanf(line, "card %d %d", &card, &error) == 2) { card_error[card] = error; continue; }
        if (sscanf(line, "mig %d %d", &card, &error) == 2) { mig[card] = error; continue; }
        if (sscanf(line, "xid %d %llu", &card, &value) == 2) { xid[card] = value; continue; }
        if (sscanf(line, "call %31s %d", name, &error) == 2) {
            strcpy(calls[n_calls].name, name);
            calls[n_calls++].error = error;
            continue;
        }
        if (sscanf(line, "set %31s %d %llu", name, &card, &value) == 3) {
            strcpy(sets[n_sets].name, name);
            sets[n_sets].card = card;
            sets[n_sets++].value = value;
        }
    }
    fclose(file);
}

/* What a call returns before it does anything. */
static int refused(Device *device, const char *group) {
    load();
    if (driver) return driver;
    if (device) {
        while (hang) { usleep(1000); load(); }
        if (card_error[device->card]) return card_error[device->card];
    }
    for (int at = 0; at < n_calls; at++)
        if (!strcmp(calls[at].name, group)) return calls[at].error;
    return SUCCESS;
}

static u64 figure(Device *device, const char *name, u64 otherwise) {
    for (int at = 0; at < n_sets; at++)
        if (sets[at].card == device->card && !strcmp(sets[at].name, name)) return sets[at].value;
    return otherwise;
}

#define ASK(group) do { int error = refused(device, group); if (error) return error; } while (0)

int nvmlInitWithFlags(unsigned flags) {
    char path[1024];
    (void)flags;
    load();
    for (int card = 0; card < MOST; card++) {
        devices[card] = (Device){card, -1};
        for (int at = 0; at < MOST; at++) instances[card][at] = (Device){card, at};
    }
    snprintf(path, sizeof path, "%s.begun", getenv("FAKE_NVML"));
    FILE *file = fopen(path, "a");
    if (file) { fputs("begun\n", file); fclose(file); }
    return driver;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) {
    switch (code) {
    case 3: return "Not Supported";
    case 4: return "Insufficient Permissions";
    case 9: return "Driver Not Loaded";
    case 15: return "GPU is lost";
    default: return "Unknown Error";
    }
}
int nvmlDeviceGetCount_v2(unsigned *count) {
    int error = refused(NULL, "count");
    *count = cards;
    return error;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **found) {
    int error = refused(NULL, "handle");
    if (error) return error;
    if ((int)index >= cards) return INVALID;
    *found = &devices[index];
    return card_error[index];
}
int nvmlDeviceGetUUID(Device *device, char *uuid, unsigned length) {
    ASK("uuid");
    if (device->instance < 0) snprintf(uuid, length, "GPU-%08x-1111-2222-3333-444444444444", device->card);
    else snprintf(uuid, length, "MIG-%08x-%04x-2222-3333-444444444444", device->card, device->instance);
    return SUCCESS;
}
int nvmlDeviceGetMigMode(Device *device, unsigned *current, unsigned *pending) {
    ASK("mig");
    if (device->instance >= 0) return INVALID;
    *current = *pending = mig[device->card] > 0;
    return SUCCESS;
}
int nvmlDeviceGetMaxMigDeviceCount(Device *device, unsigned *count) {
    ASK("mig");
    *count = mig[device->card] ? 7 : 0;
    return SUCCESS;
}
int nvmlDeviceGetMigDeviceHandleByIndex(Device *device, unsigned index, Device **found) {
    ASK("mig");
    if ((int)index >= mig[device->card]) return NOT_FOUND;
    *found = &instances[device->card][index];
    return SUCCESS;
}
typedef struct { u64 total, free, used; } Memory;
typedef struct { unsigned version; u64 total, reserved, free, used; } Memory2;
int nvmlDeviceGetMemoryInfo(Device *device, Memory *memory) {
    ASK("memory");
    memory->total = figure(device, "total", 80ull << 30) / (device->instance < 0 ? 1 : 4);
    memory->used = figure(device, "used", 20ull << 30) / (device->instance < 0 ? 1 : 4);
    memory->free = memory->total - memory->used;
    return SUCCESS;
}
int nvmlDeviceGetMemoryInfo_v2(Device *device, Memory2 *memory) {
    Memory simple;
    ASK("memory2");
    if (memory->version != 0x02000028) return 25;
    int error = nvmlDeviceGetMemoryInfo(device, &simple);
    memory->total = simple.total;
    memory->used = simple.used;
    memory->reserved = 0;
    memory->free = simple.free;
    return error;
}
int nvmlDeviceGetUtilizationRates(Device *device, unsigned rates[2]) {
    ASK("utilization");
    if (device->instance >= 0 || mig[device->card]) return NOT_SUPPORTED;
    rates[0] = figure(device, "gpu", 50 + device->card);
    rates[1] = figure(device, "memory", 30 + device->card);
    return SUCCESS;
}
int nvmlDeviceGetTemperature(Device *device, int sensor, unsigned *degrees) {
    ASK("temperature");
    (void)sensor;
    *degrees = figure(device, "temp", 60 + device->card);
    return SUCCESS;
}
int nvmlDeviceGetClockInfo(Device *device, int type, unsigned *megahertz) {
    ASK("clock");
    *megahertz = type == 2 ? figure(device, "memclock", 2619) : figure(device, "clock", 1980);
    return SUCCESS;
}
int nvmlDeviceGetCurrentClocksEventReasons(Device *device, u64 *reasons) {
    ASK("throttle");
    *reasons = figure(device, "throttle", 0);
    return SUCCESS;
}
int nvmlDeviceGetPowerUsage(Device *device, unsigned *milliwatts) {
    ASK("power");
    *milliwatts = figure(device, "power", 350500);
    return SUCCESS;
}
int nvmlDeviceGetEnforcedPowerLimit(Device *device, unsigned *milliwatts) {
    ASK("limit");
    *milliwatts = figure(device, "limit", 700000);
    return SUCCESS;
}
int nvmlDeviceGetFanSpeed(Device *device, unsigned *percent) {
    ASK("fan");
    *percent = figure(device, "fan", 35);
    return SUCCESS;
}
int nvmlDeviceGetTotalEccErrors(Device *device, int type, int counter, u64 *count) {
    ASK("ecc");
    (void)counter;
    *count = type == 0 ? figure(device, "corrected", 3) : figure(device, "uncorrected", 0);
    return SUCCESS;
}
int nvmlDeviceGetPcieThroughput(Device *device, int counter, unsigned *kibibytes) {
    ASK("pcie");
    *kibibytes = counter == 0 ? 1000 : 2000;
    return SUCCESS;
}
typedef struct {
    unsigned field, scope;
    long long timestamp, latency;
    int type, result;
    union { double d; unsigned u; u64 l; } value;
} Field;
int nvmlDeviceGetFieldValues(Device *device, int count, Field *fields) {
    ASK("fields");
    for (int at = 0; at < count; at++) {
        const char *name = fields[at].field == 197 ? "pcietx" : fields[at].field == 198 ? "pcierx"
            : fields[at].field == 138 ? "nvtx" : fields[at].field == 139 ? "nvrx" : "";
        fields[at].result = *name ? refused(device, name) : NOT_SUPPORTED;
        if (fields[at].field < 197 && fields[at].scope != 0xFFFFFFFFu) fields[at].result = INVALID;
        fields[at].type = 3; /* unsigned long long */
        fields[at].value.l = figure(device, name, 0);
    }
    return SUCCESS;
}
typedef struct { unsigned pid; u64 used; unsigned gpu_instance, compute_instance; } Process;
int nvmlDeviceGetComputeRunningProcesses_v3(Device *device, unsigned *count, Process *processes) {
    ASK("processes");
    u64 pid = figure(device, "pid", 0);
    if (!pid) { *count = 0; return SUCCESS; }
    if (!processes || *count < 2) { *count = 2; return INSUFFICIENT_SIZE; }
    *count = 2;
    processes[0] = (Process){(unsigned)pid, 5ull << 30, -1, -1};
    processes[1] = (Process){1, 7ull << 30, -1, -1}; /* somebody else's */
    return SUCCESS;
}
typedef struct { Device *device; u64 type, content; unsigned gpu_instance, compute_instance; } Event;
int nvmlEventSetCreate(void **set) { *set = devices; return refused(NULL, "events"); }
int nvmlDeviceRegisterEvents(Device *device, u64 types, void *set) { (void)types; (void)set; ASK("events"); return SUCCESS; }
int nvmlEventSetWait_v2(void *set, Event *event, unsigned milliseconds) {
    (void)set; (void)milliseconds;
    int error = refused(NULL, "events");
    if (error) return error;
    for (int card = 0; card < MOST; card++)
        if (xid[card]) {
            *event = (Event){&devices[card], 8, xid[card], -1, -1};
            xid[card] = 0;
            return SUCCESS;
        }
    return TIMEOUT;
}
int nvmlEventSetFree(void *set) { (void)set; return SUCCESS; }
