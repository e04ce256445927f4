/* How long until all weights of a model are usable in this process, by one of three ways:
 *
 *   bench-load read DIR               read() every file into anonymous memory, one thread
 *   bench-load mmap DIR               map every file, copy it into anonymous memory, one thread
 *   bench-load segment MANIFEST FILE  map preheat's segment, wait for every tensor
 *
 * Prints "seconds GB blocked": blocked is the time spent waiting for disks, in seconds. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "store/checkpoint.h"
#include "store/weights.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

DEFINE_CLEANUP(Manifest, manifest_free)
DEFINE_CLEANUP(Checkpoint, checkpoint_free)

static int fail(const Err *err) {
    (void)fprintf(stderr, "%s\n", err_text(err));
    return EXIT_FAILURE;
}

/* delayacct_blkio_ticks, field 42 of /proc/self/stat; 0 where the kernel does not count it. */
static double blocked_seconds(void) {
    _cleanup_fclose_ FILE *f = fopen("/proc/self/stat", "re");
    char line[2048];
    if (!f || !fgets(line, sizeof(line), f))
        return 0;
    const char *p = strrchr(line, ')');
    for (int field = 2; p && field < 42; field++)
        p = strchr(p + 1, ' ');
    return p ? strtod(p, NULL) / (double)sysconf(_SC_CLK_TCK) : 0;
}

static int load_file(const char *path, bool mapped, uint64_t bytes, Err *err) {
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *to = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fd < 0 || to == MAP_FAILED)
        return err_set(err, -errno, "cannot load '%s': %s", path, strerror(errno));
    if (mapped) {
        const char *from = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
        if (from == MAP_FAILED)
            return err_set(err, -errno, "cannot map '%s': %s", path, strerror(errno));
        memcpy(to, from, bytes);
        return 0;
    }
    for (uint64_t done = 0; done < bytes;) {
        ssize_t n = read(fd, to + done, bytes - done);
        if (n <= 0)
            return err_set(err, -EIO, "cannot read '%s'", path);
        done += (uint64_t)n;
    }
    return 0;
}

static int load_files(const char *dir, bool mapped, uint64_t *ret_bytes, Err *err) {
    _cleanup_(manifest_freep) Manifest *m = NULL;
    int r = manifest_scan(dir, 0, &m, err);
    for (size_t i = 0; r == 0 && i < manifest_n_files(m); i++) {
        _cleanup_free_ char *path = str_format("%s/%s", dir, manifest_file(m, i)->path);
        r = path ? load_file(path, mapped, manifest_file(m, i)->bytes, err) : -ENOMEM;
        *ret_bytes += manifest_file(m, i)->bytes;
    }
    return r;
}

static int load_segment(const char *manifest, const char *segment, uint64_t *ret_bytes, Err *err) {
    _cleanup_(manifest_freep) Manifest *m = NULL;
    _cleanup_(checkpoint_freep) Checkpoint *c = NULL;
    int r = manifest_load(manifest, &m, err);
    if (r < 0)
        return r;
    _cleanup_close_ int fd = weights_open(-1, segment, err);
    r = fd < 0 ? fd : checkpoint_open_segment(m, fd, segment, &c, err);
    for (size_t i = 0; r == 0 && i < manifest_n_tensors(m); i++) {
        const ManifestTensor *t = manifest_tensor(m, i);
        View v;
        r = checkpoint_find(c, t->part, t->name, &v, err);
        if (r == 0)
            r = checkpoint_wait(c, v, USEC_INFINITY, err);
    }
    *ret_bytes = manifest_weight_bytes(m);
    return r;
}

int main(int argc, char **argv) {
    Err err = {0};
    uint64_t start = clock_usec(), bytes = 0;
    int r;
    if (argc == 3 && (str_eq(argv[1], "read") || str_eq(argv[1], "mmap")))
        r = load_files(argv[2], str_eq(argv[1], "mmap"), &bytes, &err);
    else if (argc == 4 && str_eq(argv[1], "segment"))
        r = load_segment(argv[2], argv[3], &bytes, &err);
    else
        r = err_set(
                &err, -EINVAL, "usage: bench-load read|mmap DIR, bench-load segment MANIFEST FILE");
    if (r < 0)
        return fail(&err);
    (void)printf("%.6f %.3f %.3f\n", (double)(clock_usec() - start) / 1e6, (double)bytes / 1e9,
            blocked_seconds());
    return EXIT_SUCCESS;
}
