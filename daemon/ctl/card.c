#include "ctl/card.h"

#include "base/macro.h"

#include <dlfcn.h>
#include <errno.h>

/* Of nvml.h, whose ABI is frozen under these names: every call returns 0 or an error's number. */
typedef struct NvmlMemory {
    unsigned long long total, free, used;
} NvmlMemory;

typedef struct Nvml {
    int (*init)(void);
    int (*shutdown)(void);
    int (*by_uuid)(const char *uuid, void **ret);
    int (*by_index)(unsigned index, void **ret);
    int (*memory)(void *device, NvmlMemory *ret);
    const char *(*text)(int code);
} Nvml;

static const struct {
    const char *name;
    size_t offset;
} functions[] = {
        {"nvmlInit_v2", offsetof(Nvml, init)},
        {"nvmlShutdown", offsetof(Nvml, shutdown)},
        {"nvmlDeviceGetHandleByUUID", offsetof(Nvml, by_uuid)},
        {"nvmlDeviceGetHandleByIndex_v2", offsetof(Nvml, by_index)},
        {"nvmlDeviceGetMemoryInfo", offsetof(Nvml, memory)},
        {"nvmlErrorString", offsetof(Nvml, text)},
};

static int find_functions(void *handle, const char *library, Nvml *ret, Err *err) {
    for (size_t i = 0; i < ARRAY_LEN(functions); i++) {
        void *f = dlsym(handle, functions[i].name);
        if (!f)
            return err_set(err, -ENOSYS, "'%s' has no %s", library, functions[i].name);
        *(void **)((char *)ret + functions[i].offset) = f;
    }
    return 0;
}

static int ask(const Nvml *nvml, const char *uuid, unsigned index, uint64_t *ret, Err *err) {
    NvmlMemory memory = {0};
    void *device;
    int code = uuid[0] ? nvml->by_uuid(uuid, &device) : nvml->by_index(index, &device);
    if (code != 0 && uuid[0])
        return err_set(err, -ENODEV, "card '%s': %s", uuid, nvml->text(code));
    if (code != 0)
        return err_set(err, -ENODEV, "card %u: %s", index, nvml->text(code));
    code = nvml->memory(device, &memory);
    if (code != 0)
        return err_set(err, -ENODEV, "memory of the card: %s", nvml->text(code));
    *ret = memory.free;
    return 0;
}

int card_free(
        const char *library, const char *uuid, unsigned index, uint64_t *ret_bytes, Err *err) {
    Nvml nvml;
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        return err_set(err, -ENOSYS, "NVML cannot be loaded: %s", dlerror());
    int r = find_functions(handle, library, &nvml, err);
    if (r == 0) {
        int code = nvml.init();
        if (code != 0)
            r = err_set(err, -ENODEV, "the NVIDIA driver: %s", nvml.text(code));
        else
            r = ask(&nvml, uuid, index, ret_bytes, err);
        if (code == 0)
            (void)nvml.shutdown(); /* the process ends anyway */
    }
    (void)dlclose(handle);
    return r;
}
