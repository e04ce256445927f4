/* A stand-in for the driver's library: $NVML_TEST says what it answers, "UUID INDEX FREE". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef struct Memory {
    unsigned long long total, free, used;
} Memory;

EXPORT int nvmlInit_v2(void);
EXPORT int nvmlShutdown(void);
EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, void **ret);
EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **ret);
EXPORT int nvmlDeviceGetMemoryInfo(void *device, Memory *ret);
EXPORT const char *nvmlErrorString(int code);

static struct {
    char uuid[64];
    unsigned index;
    unsigned long long free;
} card;

/* Beside the environment, for a service: the file that a test leaves for it. */
int nvmlInit_v2(void) {
    char text[128] = "";
    const char *given = getenv("NVML_TEST");
    FILE *f = given ? NULL : fopen("/etc/nvml-test", "re");
    if (f && !fgets(text, sizeof(text), f))
        text[0] = '\0';
    if (f)
        (void)fclose(f);
    return sscanf(given ? given : text, "%63s %u %llu", card.uuid, &card.index, &card.free) == 3
                   ? 0
                   : 9;
}

int nvmlShutdown(void) {
    return 0;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **ret) {
    *ret = &card;
    return strcmp(uuid, card.uuid) == 0 ? 0 : 6;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **ret) {
    *ret = &card;
    return index == card.index ? 0 : 2;
}

int nvmlDeviceGetMemoryInfo(void *device, Memory *ret) {
    if (device != &card)
        return 2;
    *ret = (Memory){.total = 80ULL << 30, .free = card.free};
    return card.free == 13 ? 999 : 0;
}

const char *nvmlErrorString(int code) {
    return code == 9 ? "Driver Not Loaded" : code == 6 ? "Not Found" : "Invalid Argument";
}
