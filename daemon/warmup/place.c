#include "warmup/place.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/size.h"
#include "base/str.h"
#include "store/weights.h"
#include "warmup/hugepages.h"
#include "warmup/numa.h"

#include <dirent.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

DEFINE_CLEANUP(Segment, segment_close)

/* What a new file at path would take from the rest of the machine; 0 for a file that is there. */
static uint64_t memory_needed(const char *path, const char *dir, uint64_t bytes) {
    struct stat st;
    if (stat(path, &st) == 0 && (uint64_t)st.st_size >= bytes)
        return 0;
    struct statfs fs;
    HugePages h;
    if (statfs(dir, &fs) < 0 || fs.f_type != HUGETLBFS_MAGIC || hugepages_read(NULL, &h, NULL) < 0)
        return bytes;
    uint64_t free = h.free > h.promised ? (h.free - h.promised) * HUGEPAGE_BYTES : 0;
    return bytes - MIN(bytes, free);
}

static int check_floor(uint64_t needed, uint64_t floor, Err *err) {
    uint64_t available = hugepages_memory_available();
    if (needed == 0 || (available >= floor && available - floor >= needed))
        return 0;
    return err_set(err, -ENOMEM,
            "the weights need %ju MiB more memory, %ju MiB are available and %ju MiB must stay so",
            (uintmax_t)(needed / MIB), (uintmax_t)(available / MIB), (uintmax_t)(floor / MIB));
}

/* -ENOENT when the place's directory does not exist. */
static int try_place(
        const Manifest *m, const char *place, uint64_t floor, Segment **ret, Err *err) {
    _cleanup_free_ char *copy = strdup(place);
    struct stat st;
    if (!copy)
        return err_set(err, -ENOMEM, "no memory for a path");
    const char *dir = dirname(copy);
    if (stat(dir, &st) < 0)
        return err_set(err, -errno, "there is no directory '%s'", dir);
    int r = check_floor(memory_needed(place, dir, manifest_segment_bytes(m)), floor, err);
    return r < 0 ? r : segment_create(place, m, ret, err);
}

/* Bytes of shared memory that this process has mapped by huge pages; 0 where it is not told. */
static uint64_t huge_shared_bytes(void) {
    _cleanup_fclose_ FILE *f = fopen("/proc/self/smaps_rollup", "re");
    char line[256];
    unsigned long long kib = 0;
    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "ShmemPmdMapped: %llu kB", &kib) == 1)
            break;
    return kib * KIB;
}

static void describe(const Manifest *m, const Segment *s, const char *path, PlaceReport *report) {
    uint64_t bytes = manifest_segment_bytes(m), page = segment_page_bytes(s), huge;
    (void)snprintf(report->path, sizeof(report->path), "%s", path); /* for people: may be cut */
    report->huge = segment_backing(s) == SEGMENT_HUGETLB;
    if (report->huge) {
        (void)snprintf(report->backing, sizeof(report->backing), "%ju huge pages of %ju MiB",
                (uintmax_t)((bytes + page - 1) / page), (uintmax_t)(page / MIB));
        return;
    }
    huge = MIN(huge_shared_bytes(), bytes);
    (void)snprintf(report->backing, sizeof(report->backing),
            "%ju MiB of shared memory, %ju MiB of it in huge pages", (uintmax_t)(bytes / MIB),
            (uintmax_t)(huge / MIB));
    HugePages h;
    uint64_t available = hugepages_read(NULL, &h, NULL) < 0 ? 0 : hugepages_available(&h);
    report->pages_missing = report->pages_needed - MIN(report->pages_needed, available);
}

static void evict_behind(const char *path, int place) {
    for (int i = place + 1; i < N_WEIGHTS_PLACES; i++) {
        _cleanup_free_ char *other = weights_place(path, i);
        if (other)
            (void)segment_evict(other, NULL); /* being filled by somebody: theirs */
    }
}

int place_open(const Manifest *m, const char *path, uint64_t floor_bytes, Segment **ret,
        PlaceReport *report, Err *err) {
    *report = (PlaceReport){
            .pages_needed = manifest_segment_bytes(m) / HUGEPAGE_BYTES, .numa_node = -1};
    report->numa_node = numa_prefer_gpu();
    int r = -ENOSPC;
    for (int i = 0; i < N_WEIGHTS_PLACES; i++) {
        _cleanup_free_ char *place = weights_place(path, i);
        _cleanup_(segment_closep) Segment *s = NULL;
        if (!place)
            return err_set(err, -ENOMEM, "no memory for a path");
        Err mine = {0};
        r = try_place(m, place, floor_bytes, &s, &mine);
        if (r == 0) {
            err_clear(err);
            describe(m, s, place, report);
            evict_behind(path, i);
            *ret = TAKE_PTR(s);
            return 0;
        }
        bool next = r == -ENOSPC || r == -ENOENT || r == -ENOTSUP;
        if (err && (i == 0 || !next)) /* of several places that are full, the first is told */
            *err = mine;
        if (!next)
            return r;
    }
    return err && err->code < 0 ? err->code : r;
}

int place_evict(const char *path, Err *err) {
    for (int i = 0; i < N_WEIGHTS_PLACES; i++) {
        _cleanup_free_ char *place = weights_place(path, i);
        int r = place ? segment_evict(place, err) : err_set(err, -ENOMEM, "no memory for a path");
        if (r < 0)
            return r;
    }
    return 0;
}

static bool is_other_segment(int dir, const char *entry, const char *own) {
    if (entry[0] == '.' || str_eq(entry, own))
        return false;
    _cleanup_close_ int fd = openat(dir, entry, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    return fd >= 0 && segment_check(fd, NULL) == 0;
}

static size_t evict_others_in(const char *dir, const char *own) {
    DIR *d = opendir(dir);
    const struct dirent *e;
    size_t n = 0;
    while (d && (e = readdir(d))) {
        _cleanup_free_ char *path = str_format("%s/%s", dir, e->d_name);
        if (path && is_other_segment(dirfd(d), e->d_name, own))
            n += segment_evict(path, NULL) == 0;
    }
    if (d)
        (void)closedir(d);
    return n;
}

size_t place_evict_others(const char *path) {
    enum { N_OWN_PLACES = 2 }; /* the third, /dev/shm, belongs to everybody */
    size_t n = 0;
    for (int i = 0; i < N_OWN_PLACES; i++) {
        _cleanup_free_ char *place = weights_place(path, i), *copy = place ? strdup(place) : NULL;
        if (copy)
            n += evict_others_in(dirname(copy), strrchr(place, '/') + 1);
    }
    return n;
}
