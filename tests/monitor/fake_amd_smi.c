/* AMD SMI's C interface over a small file, so that AMD's own Python bindings can be tested without a GPU.
 *
 * FAKE_AMD_SMI names the file, read at each call: `cards 2`, `driver 34` (what every call returns), `call power 2`.
 * The bindings look every function up when they are imported; those that nobody calls here are made beside this file
 * (STUBS) and return "not supported".
 * Signatures and structures: https://rocm.docs.amd.com/projects/amdsmi/en/latest/doxygen/docBin/html/
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void *Handle;
static int handles[16], cards;

static int refused(const char *group) {
    char line[256], name[32];
    int found = 0, error;
    FILE *file = fopen(getenv("FAKE_AMD_SMI"), "r");
    cards = 0;
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, "cards %d", &cards) == 1) continue;
        if (sscanf(line, "driver %d", &error) == 1) found = error;
        if (sscanf(line, "call %31s %d", name, &error) == 2 && !strcmp(name, group)) found = error;
    }
    if (file) fclose(file);
    return found;
}
#define ASK(group) do { int error = refused(group); if (error) return error; } while (0)
static int number(Handle handle) { return (int)((int *)handle - handles); }

int amdsmi_init(uint64_t flags) { (void)flags; return refused("init"); }
int amdsmi_shut_down(void) { return 0; }
int amdsmi_get_socket_handles(uint32_t *count, Handle *found) {
    ASK("handles");
    if (found) found[0] = &cards;
    *count = 1;
    return 0;
}
int amdsmi_get_processor_handles(Handle socket, uint32_t *count, Handle *found) {
    (void)socket;
    ASK("handles");
    for (int card = 0; found && card < cards; card++) found[card] = &handles[card];
    *count = cards;
    return 0;
}
int amdsmi_get_gpu_device_uuid(Handle handle, unsigned *length, char *uuid) {
    ASK("uuid");
    snprintf(uuid, *length, "GPU-c%d", number(handle));
    return 0;
}
int amdsmi_get_gpu_memory_total(Handle handle, int kind, uint64_t *bytes) {
    (void)handle; (void)kind;
    ASK("memory");
    *bytes = 192ull << 30;
    return 0;
}
int amdsmi_get_gpu_memory_usage(Handle handle, int kind, uint64_t *bytes) {
    (void)handle; (void)kind;
    ASK("memory");
    *bytes = 48ull << 30;
    return 0;
}
typedef struct { uint32_t gfx, umc, mm, reserved[13]; } Activity;
int amdsmi_get_gpu_activity(Handle handle, Activity *activity) {
    ASK("activity");
    activity->gfx = 70 + number(handle);
    activity->umc = refused("bandwidth") ? 0xFFFF : 20;
    return 0;
}
int amdsmi_get_temp_metric(Handle handle, int sensor, int metric, int64_t *degrees) {
    (void)metric;
    ASK(sensor == 0 ? "edge" : "hotspot");
    *degrees = (sensor == 0 ? 50 : 66) + number(handle);
    return 0;
}
typedef struct {
    uint64_t socket;
    uint32_t current, average;
    uint64_t gfx, soc, mem;
    uint32_t limit;
    uint64_t reserved[18];
} Power;
int amdsmi_get_power_info(Handle handle, Power *power) {
    (void)handle;
    ASK("power");
    *power = (Power){.socket = 300, .current = 0xFFFF, .average = 300, .limit = 750};
    if (refused("microwatts")) power->limit = 750000000;
    return 0;
}
typedef struct { uint32_t clock, low, high; uint8_t locked, asleep; uint32_t reserved[4]; } Clock;
int amdsmi_get_clock_info(Handle handle, int kind, Clock *clock) {
    (void)handle;
    ASK("clock");
    *clock = (Clock){.clock = kind == 0 ? 2100 : 1300};
    return 0;
}
int amdsmi_get_gpu_fan_speed(Handle handle, uint32_t at, int64_t *speed) { (void)handle; (void)at; ASK("fan"); *speed = 51; return 0; }
int amdsmi_get_gpu_fan_speed_max(Handle handle, uint32_t at, uint64_t *speed) {
    (void)handle; (void)at;
    ASK("fan");
    *speed = 255;
    return 0;
}
typedef struct { uint64_t corrected, uncorrected, deferred, reserved[5]; } Errors;
int amdsmi_get_gpu_total_ecc_count(Handle handle, Errors *errors) {
    (void)handle;
    ASK("ecc");
    *errors = (Errors){.corrected = 4, .uncorrected = 1};
    return 0;
}
typedef struct {
    char name[256];
    uint32_t pid;
    uint64_t memory;
    struct { uint64_t gfx, enc; uint32_t reserved[12]; } engines;
    struct { uint64_t gtt, cpu, vram; uint32_t reserved[10]; } parts;
    char container[256];
    uint32_t occupancy, reserved[11];
} Process;
int amdsmi_get_gpu_process_list(Handle handle, uint32_t *most, Process *processes) {
    (void)handle;
    ASK("processes");
    memset(processes, 0, 2 * sizeof *processes);
    processes[0].pid = atoi(getenv("FAKE_PID"));
    processes[0].parts.vram = 6ull << 30;
    processes[1].pid = 1;
    processes[1].parts.vram = 9ull << 30;
    *most = 2;
    return 0;
}
int amdsmi_free_name_value_pairs(void *pairs) { (void)pairs; return 0; }

#include "stubs.h"
