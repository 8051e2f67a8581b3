/* fake_nvml.c - a stand-in for libnvidia-ml.so.1, so that what nvml-wrapper really calls is tested on machines without a GPU.
 *
 *   cc -shared -fPIC -O1 -o libnvidia-ml.so.1 fake_nvml.c            a driver of today
 *   cc -DOLD -shared -fPIC -O1 -o libnvidia-ml.so.1 fake_nvml.c      one before 510: no second version of the memory call
 *   cc -DNO_SHUTDOWN ...                                             a broken one
 *   FAKE_NVML=gpus.txt GPUROUTER_NVML_LIB=./libnvidia-ml.so.1 gpurouter status
 *
 * gpus.txt is read again at every call, so that a test can change it while the program runs. One line for each GPU:
 *   # key=value; ...
 *   name=NVIDIA GeForce RTX 3090; total=24576; used=1024; reserved=512; gpu=7; temp=41; power=32.5; energy=1234567; cc=8.6;
 *       cores=10496; bus=384; clock=9751; pci=1; uuid=GPU-...; procs=1234:900,77:10        (one line; sizes in MiB, energy in mJ)
 * Every key may be missing; its call then answers "not supported" (3). state=CODE makes the handle answer CODE (15 = lost, 16 = reset
 * required); memory=CODE the memory call. A line "! CODE" makes nvmlInit_v2 return CODE (9 = driver not loaded, 12 = library not found,
 * 18 = versions differ), "count CODE" the count; "sleep MS" makes every call take that long, "hang" makes it take for ever.
 * A file that is missing is a driver without a GPU.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX 16
#define EXPORT __attribute__((visibility("default")))
enum { OK = 0, INVALID = 2, UNSUPPORTED = 3, TOO_SMALL = 7 };
enum { NAME, TOTAL, USED, RESERVED, GPU, TEMP, POWER, ENERGY, CC, CORES, BUS, CLOCK, PCI, UUID, PROCS, STATE, MEMORY, KEYS };
static const char *KEY[KEYS] = { "name", "total", "used", "reserved", "gpu", "temp", "power", "energy", "cc", "cores", "bus", "clock",
                                 "pci", "uuid", "procs", "state", "memory" };
typedef struct { char value[KEYS][128]; int has[KEYS]; } gpu_t;
static gpu_t G[MAX];
static int N, INIT, COUNT;

static char *trim(char *s) {
    while (*s == ' ') s++;
    for (char *e = s + strlen(s); e > s && (e[-1] == ' ' || e[-1] == '\n' || e[-1] == '\r');) *--e = 0;
    return s;
}
static void parse(gpu_t *g, char *line) {
    memset(g, 0, sizeof *g);
    for (char *part = strtok(line, ";"); part; part = strtok(NULL, ";")) {
        char *is = strchr(part, '=');
        if (!is) continue;
        *is = 0;
        char *key = trim(part), *value = trim(is + 1);
        for (int k = 0; k < KEYS; k++)
            if (!strcmp(key, KEY[k])) { g->has[k] = 1; snprintf(g->value[k], sizeof g->value[k], "%s", value); }
    }
}
static void load(void) {
    char line[4096];
    const char *path = getenv("FAKE_NVML");
    FILE *f = path ? fopen(path, "r") : NULL;
    N = INIT = COUNT = 0;
    if (!f) return;
    while (N < MAX && fgets(line, sizeof line, f)) {
        char *s = trim(line);
        if (!*s || *s == '#') continue;
        if (*s == '!') { INIT = atoi(s + 1); continue; }
        if (!strncmp(s, "count ", 6)) { COUNT = atoi(s + 6); continue; }
        if (!strncmp(s, "sleep ", 6)) { usleep((unsigned)atoi(s + 6) * 1000); continue; }
        if (!strcmp(s, "hang")) { fclose(f); for (;;) pause(); }
        parse(&G[N++], s);
    }
    fclose(f);
}
/* A handle is the index plus one. */
static gpu_t *get(void *h, int *rc) {
    long i = (long)h - 1;
    load();
    if (i < 0 || i >= N) { *rc = INVALID; return NULL; }
    if (G[i].has[STATE]) { *rc = atoi(G[i].value[STATE]); return NULL; }
    *rc = OK;
    return &G[i];
}
static int put(char *buf, unsigned len, const char *s) { if (strlen(s) + 1 > len) return TOO_SMALL; strcpy(buf, s); return OK; }
static unsigned long long mib(const gpu_t *g, int k) { return strtoull(g->value[k], NULL, 10) << 20; }
#define DEV(key) int rc; gpu_t *g = get(d, &rc); if (!g) return rc; if (!g->has[key]) return UNSUPPORTED

EXPORT int nvmlInit_v2(void) { load(); return INIT; }
EXPORT int nvmlInitWithFlags(unsigned f) { (void)f; return nvmlInit_v2(); }
#ifndef NO_SHUTDOWN
EXPORT int nvmlShutdown(void) {
    /* Leaves a trace, so that a test sees a clean end. */
    const char *path = getenv("FAKE_NVML_SHUTDOWN");
    FILE *f = path ? fopen(path, "a") : NULL;
    if (f) { fputs("shutdown\n", f); fclose(f); }
    return OK;
}
#endif
EXPORT const char *nvmlErrorString(int rc) { return rc == OK ? "Success" : "fake NVML error"; }
EXPORT int nvmlSystemGetDriverVersion(char *b, unsigned n) { return put(b, n, "550.00.00"); }
EXPORT int nvmlDeviceGetCount_v2(unsigned *n) { load(); *n = (unsigned)N; return COUNT; }
EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d) {
    int rc;
    if (!get((void *)(long)(i + 1), &rc)) return rc;
    *d = (void *)(long)(i + 1);
    return OK;
}
EXPORT int nvmlDeviceGetName(void *d, char *b, unsigned n) { DEV(NAME); return put(b, n, g->value[NAME]); }
EXPORT int nvmlDeviceGetUUID(void *d, char *b, unsigned n) { DEV(UUID); return put(b, n, g->value[UUID]); }
typedef struct { unsigned long long total, free, used; } mem1_t;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } mem2_t;
EXPORT int nvmlDeviceGetMemoryInfo(void *d, mem1_t *m) {
    DEV(TOTAL);
    m->total = mib(g, TOTAL); m->used = mib(g, USED) + mib(g, RESERVED); m->free = m->total - m->used;
    return OK;
}
#ifndef OLD
EXPORT int nvmlDeviceGetMemoryInfo_v2(void *d, mem2_t *m) {
    int rc; gpu_t *g = get(d, &rc); if (!g) return rc;
    if (g->has[MEMORY]) return atoi(g->value[MEMORY]);
    /* NVML_STRUCT_VERSION(Memory, 2): the real library refuses any other. */
    if (m->version != (sizeof *m | (2u << 24))) return INVALID;
    m->total = mib(g, TOTAL); m->reserved = mib(g, RESERVED); m->used = mib(g, USED); m->free = m->total - m->used - m->reserved;
    return OK;
}
#endif
EXPORT int nvmlDeviceGetUtilizationRates(void *d, unsigned u[2]) { DEV(GPU); u[0] = (unsigned)atoi(g->value[GPU]); u[1] = 0; return OK; }
EXPORT int nvmlDeviceGetTemperature(void *d, int sensor, unsigned *t) { (void)sensor; DEV(TEMP); *t = (unsigned)atoi(g->value[TEMP]); return OK; }
EXPORT int nvmlDeviceGetPowerUsage(void *d, unsigned *mw) { DEV(POWER); *mw = (unsigned)(atof(g->value[POWER]) * 1000); return OK; }
EXPORT int nvmlDeviceGetTotalEnergyConsumption(void *d, unsigned long long *mj) { DEV(ENERGY); *mj = strtoull(g->value[ENERGY], NULL, 10); return OK; }
EXPORT int nvmlDeviceGetCudaComputeCapability(void *d, int *major, int *minor) { DEV(CC); return sscanf(g->value[CC], "%d.%d", major, minor) == 2 ? OK : INVALID; }
EXPORT int nvmlDeviceGetNumGpuCores(void *d, unsigned *n) { DEV(CORES); *n = (unsigned)atoi(g->value[CORES]); return OK; }
EXPORT int nvmlDeviceGetMemoryBusWidth(void *d, unsigned *n) { DEV(BUS); *n = (unsigned)atoi(g->value[BUS]); return OK; }
EXPORT int nvmlDeviceGetMaxClockInfo(void *d, int type, unsigned *mhz) { DEV(CLOCK); if (type != 2) return INVALID; *mhz = (unsigned)atoi(g->value[CLOCK]); return OK; }
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char busid[32]; } pci_t;
EXPORT int nvmlDeviceGetPciInfo_v3(void *d, pci_t *p) {
    DEV(PCI);
    memset(p, 0, sizeof *p);
    p->bus = (unsigned)atoi(g->value[PCI]);
    snprintf(p->busid, sizeof p->busid, "00000000:%02X:00.0", p->bus & 0xff);
    snprintf(p->legacy, sizeof p->legacy, "0000:%02X:00.0", p->bus & 0xff);
    return OK;
}
typedef struct { unsigned pid; unsigned long long mem; unsigned gi, ci; } proc_t;
EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(void *d, unsigned *n, proc_t *out) {
    DEV(PROCS);
    unsigned have = 0, room = *n;
    char list[128];
    snprintf(list, sizeof list, "%s", g->value[PROCS]);
    for (char *t = strtok(list, ","); t; t = strtok(NULL, ",")) {
        char *c = strchr(t, ':');
        /* Without a size: not available, as under WSL. */
        if (out && have < room) out[have] = (proc_t){ (unsigned)atoi(t), c ? strtoull(c + 1, NULL, 10) << 20 : ~0ull, ~0u, ~0u };
        have++;
    }
    *n = have;
    return have > room || (!out && have) ? TOO_SMALL : OK;
}
EXPORT int nvmlDeviceGetGraphicsRunningProcesses_v3(void *d, unsigned *n, proc_t *out) {
    int rc; gpu_t *g = get(d, &rc); (void)out; if (!g) return rc;
    *n = 0;
    return OK;
}
