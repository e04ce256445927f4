#include "warmup/place.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/size.h"
#include "base/str.h"
#include "warmup/hugepages.h"
#include "warmup/numa.h"

#include <dirent.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

DEFINE_CLEANUP(Segment, segment_close)

/* Memory in huge pages that are reserved and free, which the segment takes before any other. */
static uint64_t reserved_for(const char *path, int place) {
    _cleanup_free_ char *file = places_path(path, place);
    struct statfs fs;
    HugePages h;
    if (!file || statfs(dirname(file), &fs) < 0 || fs.f_type != HUGETLBFS_MAGIC ||
            hugepages_read((uint64_t)fs.f_bsize == GIB ? GIGANTIC_SYSFS : NULL, &h, NULL) < 0)
        return 0;
    return h.free > h.promised ? (h.free - h.promised) * (uint64_t)fs.f_bsize : 0;
}

/* What a new segment would take from the rest of the machine. */
static uint64_t memory_needed(const char *path, uint64_t bytes) {
    uint64_t reserved = reserved_for(path, PLACE_GIGANTIC) + reserved_for(path, PLACE_CONFIGURED);
    return bytes - MIN(bytes, reserved);
}

static int check_floor(uint64_t needed, uint64_t floor, Err *err) {
    uint64_t available = hugepages_memory_available();
    if (needed == 0 || (available >= floor && available - floor >= needed))
        return 0;
    return err_set(err, -ENOMEM,
            "the weights need %ju MiB more memory, %ju MiB are available and %ju MiB must stay so",
            (uintmax_t)(needed / MIB), (uintmax_t)(available / MIB), (uintmax_t)(floor / MIB));
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

static void describe_share(const SegmentShare *share, const char *path, Buf *text) {
    _cleanup_free_ char *file = places_path(path, share->place);
    uint64_t page = share->page_bytes;
    buf_printf(text, "%s", text->size ? ", " : "");
    if (share->backing == SEGMENT_HUGETLB) {
        buf_printf(text, "%ju huge pages of %ju %s", (uintmax_t)(share->bytes / page),
                (uintmax_t)(page >= GIB ? page / GIB : page / MIB), page >= GIB ? "GiB" : "MiB");
        return;
    }
    buf_printf(text, "%ju MiB of shared memory in '%s'", (uintmax_t)(share->bytes / MIB),
            file ? dirname(file) : "?");
}

static void describe(const Manifest *m, const Segment *s, const char *path, PlaceReport *report) {
    SegmentShare share[N_PLACES];
    size_t n = segment_shares(s, share);
    _cleanup_free_ char *first = places_path(path, share[0].place);
    Buf text = {0};
    uint64_t shared = 0;
    for (size_t i = 0; i < n; i++) {
        describe_share(&share[i], path, &text);
        shared += share[i].backing == SEGMENT_TMPFS ? share[i].bytes : 0;
    }
    if (shared)
        buf_printf(&text, ", %ju MiB of it by huge pages",
                (uintmax_t)(MIN(huge_shared_bytes(), shared) / MIB));
    /* For people: may be cut. */
    (void)snprintf(report->path, sizeof(report->path), "%s", first ? first : path);
    (void)snprintf(
            report->backing, sizeof(report->backing), "%s", buf_failed(&text) ? "?" : text.data);
    buf_done(&text);
    report->pages_missing = shared / HUGEPAGE_BYTES;
    HugePages h;
    report->pages_to_be_had =
            hugepages_read(NULL, &h, NULL) == 0 && hugepages_available(&h) >= report->pages_missing;
}

int place_open(const Manifest *m, const char *path, uint64_t floor_bytes, PlaceMemory memory,
        Segment **ret, PlaceReport *report, Err *err) {
    *report = (PlaceReport){
            .pages_needed = manifest_segment_bytes(m) / HUGEPAGE_BYTES, .numa_node = -1};
    report->numa_node = numa_prefer_gpu();
    _cleanup_(segment_closep) Segment *s = NULL;
    int r = segment_continue(path, m, &s, err);
    if (r == -ENOENT) { /* what was in the way has given its memory back */
        r = check_floor(memory_needed(path, manifest_segment_bytes(m)), floor_bytes, err);
        if (r == 0)
            r = memory == PLACE_TAKEN ? segment_create_taken(path, m, &s, err)
                                      : segment_create(path, m, &s, err);
    }
    if (r < 0)
        return r;
    segment_evict_rest(s, path);
    describe(m, s, path, report);
    *ret = TAKE_PTR(s);
    return 0;
}

static bool is_other_segment(int dir, const char *entry, const char *path, const char *own) {
    if (entry[0] == '.' || str_eq(entry, own))
        return false;
    _cleanup_close_ int fd = openat(dir, entry, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    return fd >= 0 && segment_check(fd, path, NULL) >= 0;
}

static size_t evict_others_in(const char *dir, const char *path) {
    _cleanup_free_ char *beside = strdup(path);
    const char *own = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    DIR *d = opendir(dir);
    const struct dirent *e;
    size_t n = 0;
    if (beside)
        (void)dirname(beside);
    while (d && beside && (e = readdir(d))) {
        _cleanup_free_ char *other = str_format("%s/%s", beside, e->d_name);
        if (other && is_other_segment(dirfd(d), e->d_name, path, own))
            n += segment_evict(other, NULL) == 0;
    }
    if (d)
        (void)closedir(d);
    return n;
}

size_t place_evict_others(const char *path) {
    size_t n = 0;
    for (int i = 0; i < PLACE_PUBLIC; i++) {
        _cleanup_free_ char *file = places_path(path, i);
        if (file)
            n += evict_others_in(dirname(file), path);
    }
    return n;
}
