#include "backend/interface.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

int backend_load(const char *path, const BackendModule **ret, Err *err) {
    if (strchr(path, '/') == NULL)
        return err_set(err, -EINVAL, "backend module '%s' must be a path", path);
    if (access(path, F_OK) < 0) /* dlopen() does not tell this from a damaged file */
        return err_set(err, -errno, "backend module '%s': %s", path, strerror(errno));
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return err_set(err, -ELIBACC, "cannot load backend module: %s", dlerror());
    const BackendModule *m = dlsym(library, "preheat_backend");
    if (!m) {
        (void)dlclose(library);
        return err_set(err, -ELIBACC, "'%s' has no symbol 'preheat_backend'", path);
    }
    if (m->abi != BACKEND_ABI) {
        uint32_t abi = m->abi;
        (void)dlclose(library);
        return err_set(err, -EPROTO, "'%s' is for backend contract %u, this program has %u", path,
                abi, (unsigned)BACKEND_ABI);
    }
    *ret = m;
    return 0;
}

int backend_open(const BackendModule *m, const BackendOptions *options, Backend **ret, Err *err) {
    return m->open(options, ret, err);
}

Backend *backend_free(Backend *b) {
    if (b)
        b->ops->free(b);
    return NULL;
}

const BackendInfo *backend_info(const Backend *b) {
    return &b->info;
}

uint64_t backend_memory_free(Backend *b) {
    return b->ops->memory_free_bytes(b);
}

int memory_new(Backend *b, size_t bytes, Memory **ret, Err *err) {
    return b->ops->memory_new(b, bytes, ret, err);
}

Memory *memory_free(Memory *m) {
    if (m)
        m->backend->ops->memory_free(m);
    return NULL;
}

void *memory_data(const Memory *m) {
    return m->data;
}

size_t memory_bytes(const Memory *m) {
    return m->bytes;
}

int memory_export(Memory *m, int *ret_fd, Err *err) {
    return m->backend->ops->memory_export(m, ret_fd, err);
}

int memory_import(Backend *b, int fd, size_t bytes, Memory **ret, Err *err) {
    return b->ops->memory_import(b, fd, bytes, ret, err);
}

int backend_pin(Backend *b, const void *data, size_t bytes, Err *err) {
    return b->ops->pin(b, data, bytes, err);
}

void backend_unpin(Backend *b, const void *data, size_t bytes) {
    b->ops->unpin(b, data, bytes);
}

size_t weight_bytes(Backend *b, WeightKind kind, View host) {
    return b->ops->weight_bytes(b, kind, host);
}

static void assert_importable(View host) {
    assert(view_is_dense(host));
    assert(host.dtype == DTYPE_F32 || host.dtype == DTYPE_BF16 || host.dtype == DTYPE_F16);
}

void weight_import(Stream *s, const WeightImport *all, size_t n) {
    assert(n <= WEIGHT_IMPORT_MOST);
    for (size_t i = 0; i < n; i++)
        assert_importable(all[i].host);
    if (stream_is_live(s))
        s->backend->ops->weight_import(s, all, n);
}

View weight_view(Backend *b, WeightKind kind, View host, void *storage) {
    assert_importable(host);
    return b->ops->weight_view(b, kind, host, storage);
}
