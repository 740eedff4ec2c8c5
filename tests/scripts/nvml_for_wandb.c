/* The NVML of tests/monitor, with what W&B's own monitor asks of it besides. */
#include "../monitor/fake_nvml.c"

int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 12040; return SUCCESS; }
int nvmlDeviceGetName(Device *device, char *name, unsigned size) {
    (void)device;
    snprintf(name, size, "a card");
    return SUCCESS;
}
int nvmlDeviceGetNumGpuCores(Device *device, unsigned *cores) { (void)device; *cores = 100; return SUCCESS; }
int nvmlDeviceGetArchitecture(Device *device, unsigned *number) { (void)device; *number = 9; return SUCCESS; }
