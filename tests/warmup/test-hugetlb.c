/* The whole way on real hugetlbfs: reserve, fill, continue, too few pages, evict to the page; pages
 * of 1 GiB where two can be reserved. */
#include "program.h"
#include "warmup/hugepages.h"

#include <poll.h>
#include <sys/mount.h>

enum { SKIP = 77 };

static const char overcommit[] = "/proc/sys/vm/nr_overcommit_hugepages";
static const char gigantic[] = GIGANTIC_SYSFS "/nr_hugepages";
static uint64_t overcommit_before, gigantic_before;
static char base[] = "/tmp/preheat-huge-XXXXXX", dir[64], large[64];

static char groups[64], group[96]; /* control groups with limits on huge pages */

static void set_number(const char *file, uint64_t n) {
    FILE *f = fopen(file, "we");
    if (f) {
        (void)fprintf(f, "%ju\n", (uintmax_t)n);
        (void)fclose(f);
    }
}

static void restore(void) {
    set_number(overcommit, overcommit_before);
    (void)umount2(dir, MNT_DETACH);
    (void)umount2(large, MNT_DETACH);
    (void)rmdir(group);
    (void)umount2(groups, MNT_DETACH);
    (void)rmdir(groups);
    (void)rmdir(dir);
    (void)rmdir(large);
    (void)rmdir(base);
    set_number(gigantic, gigantic_before);
}

static bool mount_pages(char path[static 64], const char *name, const char *options) {
    (void)snprintf(path, 64, "%s/%s", base, name);
    return mkdir(path, 0755) == 0 &&
           mount("none", path, "hugetlbfs", MS_NOSUID | MS_NODEV, options) == 0;
}

static HugePages counters(void) {
    HugePages h;
    CHECK(hugepages_read(NULL, &h, NULL) == 0);
    return h;
}

static HugePages gigantic_counters(void) {
    HugePages h = {0};
    (void)hugepages_read(GIGANTIC_SYSFS, &h, NULL);
    return h;
}

/* The kernel takes an io_uring apart after its process is gone, and that holds pages until then. */
static bool in_use_soon(const char *sysfs, uint64_t wanted) {
    for (int i = 0; i < 500; i++) {
        HugePages h;
        CHECK(hugepages_read(sysfs, &h, NULL) == 0);
        if (h.total - h.free == wanted)
            return true;
        struct timespec t = {.tv_nsec = 10 * 1000 * 1000};
        (void)ppoll(NULL, 0, &t, NULL);
    }
    return false;
}

/* What the segment has in each place, and that all of it is right. */
static size_t look(const Program *p, SegmentShare share[static N_PLACES]) {
    Manifest *m;
    Segment *s;
    size_t n;
    CHECK((size_t)program_look(p, &n) == n);
    CHECK(manifest_load(p->kept, &m, NULL) == 0);
    int fd = weights_open(-1, p->segment, NULL);
    CHECK(fd >= 0 && segment_open(fd, p->segment, m, &s, NULL) == 0);
    n = segment_shares(s, share);
    segment_close(s);
    close(fd);
    manifest_free(m);
    return n;
}

static uint64_t segment_pages(const Program *p) {
    Manifest *m;
    CHECK(manifest_load(p->kept, &m, NULL) == 0);
    uint64_t pages = manifest_segment_bytes(m) / HUGEPAGE_BYTES;
    manifest_free(m);
    return pages;
}

static void enough_pages(const Program *p, uint64_t pages, uint64_t before) {
    static const char *const readers[] = {"io_uring", "threads"};
    size_t n;
    for (int i = 0; i < 2; i++) {
        (void)unlink(p->segment);
        CHECK(program_wait(program_start(p, readers[i])) == 0);
        CHECK((size_t)program_look(p, &n) == n);
        CHECK(access(p->segment, F_OK) == 0);
        CHECK(in_use_soon(NULL, before + pages));
        /* A second run finds everything. */
        CHECK(program_wait(program_start(p, readers[i])) == 0);
        CHECK((size_t)program_look(p, &n) == n);
    }
    CHECK(unlink(p->segment) == 0);
    CHECK(in_use_soon(NULL, before));
}

/* A new segment's pages are promised, and taken when it is filled: nobody gets them meanwhile, a
 * writer that dies leaves the promise with the file, and a removed file gives it back. */
static void promised_pages(const Program *p, uint64_t pages, uint64_t before) {
    Manifest *m;
    Segment *s;
    CHECK(manifest_load(p->kept, &m, NULL) == 0);
    HugePages at_first = counters();
    CHECK(segment_create(p->segment, m, &s, NULL) == 0);
    HugePages h = counters();
    CHECK(h.promised - at_first.promised + 1 == pages); /* the header's is taken */
    for (size_t i = 0; i < manifest_n_chunks(m); i++) {
        uint64_t bytes, room;
        (void)segment_chunk(s, i, &bytes, &room);
        CHECK(i % 2 == 0 || segment_populate(s, i, 0, room) == 0);
    }
    CHECK(counters().promised < h.promised);
    segment_close(s); /* as one that is killed */
    set_number(overcommit, 0);
    SegmentShare share[N_PLACES];
    CHECK(program_wait(program_start(p, "auto")) == 0);
    CHECK(look(p, share) == 1 && share[0].backing == SEGMENT_HUGETLB);
    CHECK(in_use_soon(NULL, before + pages) && counters().promised == at_first.promised);
    CHECK(segment_evict(p->segment, NULL) == 0);
    CHECK(in_use_soon(NULL, before));

    set_number(overcommit, overcommit_before + pages);
    CHECK(segment_create(p->segment, m, &s, NULL) == 0);
    segment_close(s);
    CHECK(segment_evict(p->segment, NULL) == 0);
    CHECK(in_use_soon(NULL, before) && counters().promised == at_first.promised);
    manifest_free(m);
}

/* A control group whose limit on huge pages is hit when they are taken, not when they are promised:
 * what is there is used, as where there are too few. */
static void broken_promise(const Program *p, uint64_t pages, uint64_t before) {
    char limit[160], members[160];
    SegmentShare share[N_PLACES];
    (void)snprintf(groups, sizeof(groups), "%s/groups", base);
    (void)snprintf(group, sizeof(group), "%s/some", groups);
    (void)snprintf(limit, sizeof(limit), "%s/hugetlb.2MB.limit_in_bytes", group);
    (void)snprintf(members, sizeof(members), "%s/cgroup.procs", group);
    if (mkdir(groups, 0755) < 0 || mount("none", groups, "cgroup", 0, "hugetlb") < 0 ||
            mkdir(group, 0755) < 0 || access(limit, W_OK) < 0) {
        (void)printf("no control group with limits on huge pages, not tried\n");
        return;
    }
    set_number(overcommit, overcommit_before + pages);
    set_number(limit, 5 * HUGEPAGE_BYTES);
    set_number(members, (uint64_t)getpid());
    pid_t pid = program_start(p, "threads"); /* an io_uring gives pages back later */
    (void)snprintf(members, sizeof(members), "%s/cgroup.procs", groups);
    set_number(members, (uint64_t)getpid());
    CHECK(program_wait(pid) == 0);
    CHECK(look(p, share) == 2 && share[0].backing == SEGMENT_HUGETLB);
    CHECK(share[0].bytes == 5 * HUGEPAGE_BYTES);
    CHECK(share[1].bytes == (pages - 5) * HUGEPAGE_BYTES);
    CHECK(segment_evict(p->segment, NULL) == 0);
    CHECK(in_use_soon(NULL, before));
}

/* The huge pages that there are hold the first chunks, shared memory the rest; with none at all
 * everything is there. */
static void too_few_pages(const Program *p, uint64_t pages, uint64_t before) {
    static const uint64_t tried[] = {0, 1, 2, 9, UINT64_MAX};
    for (size_t i = 0; i < sizeof(tried) / sizeof(tried[0]); i++) {
        uint64_t n = tried[i] < pages ? tried[i] : pages - 1;
        SegmentShare share[N_PLACES];
        set_number(overcommit, counters().surplus + n);
        CHECK(program_wait(program_start(p, "auto")) == 0);
        size_t n_shares = look(p, share);
        if (n < 2) { /* the header page alone is no use */
            CHECK(n_shares == 1 && share[0].place == PLACE_PUBLIC);
            CHECK(in_use_soon(NULL, before));
        } else { /* chunks are of one page here */
            CHECK(n_shares == 2 && share[0].backing == SEGMENT_HUGETLB);
            CHECK(share[0].bytes == n * HUGEPAGE_BYTES);
            CHECK(share[1].bytes == (pages - n) * HUGEPAGE_BYTES);
            CHECK(in_use_soon(NULL, before + n));
        }
        CHECK(segment_evict(p->segment, NULL) == 0);
        CHECK(in_use_soon(NULL, before));
    }
}

/* A text encoder of 1.3 GiB, mostly holes on disk: a page of 1 GiB, then pages of 2 MiB. With two
 * pages of 1 GiB there is no second kind: the last is filled by half. */
static void large_model(const Program *p) {
    const ModelTensor one[] = {{"encoder.block.0.w", 1}};
    const char name[] = "text_encoder/model.safetensors";
    char head[256], file[256];
    uint64_t bytes = (uint64_t)1638 << 20, rows = bytes / 2048;
    model_weights(&p->model, name, one, 1, 1);
    int n = snprintf(head, sizeof(head),
            "{\"encoder.block.0.w\":{\"dtype\":\"BF16\",\"shape\":[%ju,1024],\"data_offsets\":[0,"
            "%ju]}}",
            (uintmax_t)rows, (uintmax_t)rows * 2048);
    uint64_t length = (uint64_t)n;
    (void)snprintf(file, sizeof(file), "%s/%s", p->model.dir, name);
    int fd = open(file, O_WRONLY | O_TRUNC | O_CLOEXEC);
    CHECK(fd >= 0 && write(fd, &length, 8) == 8 && write(fd, head, length) == (ssize_t)length);
    CHECK(ftruncate(fd, (off_t)(8 + length + rows * 2048)) == 0);
    for (uint64_t at = 4096; at < bytes; at += (uint64_t)50 << 20)
        CHECK(pwrite(fd, &at, 6, (off_t)at) == 6); /* below infinity, whatever the alignment */
    close(fd);
    (void)unlink(p->kept);
}

/* The memory that the segment has is not asked for again, as a reload does. */
static void nothing_is_missing(const Program *p) {
    const char *args[] = {p->path, "--config", p->config, "--model", p->model.dir, "--segment",
            p->segment, "--reserve", NULL};
    pid_t pid;
    set_number(overcommit, 0);
    CHECK(posix_spawn(&pid, p->path, NULL, NULL, (char **)args, environ) == 0);
    CHECK(program_wait(pid) == 0);
    CHECK(counters().overcommit == 0);
}

static void gigantic_pages(Program *p) {
    HugePages before = gigantic_counters(), used;
    SegmentShare share[N_PLACES];
    for (uint64_t n = 1; n <= 2; n++) {
        uint64_t pages = segment_pages(p);
        set_number(gigantic, gigantic_before + n);
        used = gigantic_counters();
        if (used.free - used.promised != n) {
            (void)printf("no %ju pages of 1 GiB to be had, not tried\n", (uintmax_t)n);
            return;
        }
        set_number(overcommit, counters().surplus + pages);
        CHECK(program_wait(program_start(p, "auto")) == 0);
        size_t n_shares = look(p, share);
        CHECK(share[0].place == PLACE_GIGANTIC && share[0].page_bytes == (uint64_t)1 << 30);
        CHECK(share[0].bytes == n << 30);
        CHECK(n_shares == 3 - n);
        CHECK(n == 2 || (share[1].place == PLACE_CONFIGURED &&
                                share[1].bytes == pages * HUGEPAGE_BYTES - ((uint64_t)1 << 30)));
        used = gigantic_counters();
        CHECK(used.free - used.promised == 0);
        CHECK(program_wait(program_start(p, "threads")) == 0); /* goes on with it */
        CHECK(look(p, share) == n_shares);
        if (n == 2)
            nothing_is_missing(p);
        CHECK(segment_evict(p->segment, NULL) == 0);
        CHECK(in_use_soon(GIGANTIC_SYSFS, before.total - before.free));
    }
    (void)printf("pages of 1 GiB: one with a rest in pages of 2 MiB, and two\n");
}

int main(int argc, char **argv) {
    HugePages h;
    CHECK(argc == 2);
    if (hugepages_read(NULL, &h, NULL) < 0 || geteuid() != 0)
        return SKIP;
    overcommit_before = h.overcommit;
    uint64_t before = h.total - h.free;
    h = gigantic_counters();
    gigantic_before = h.total;
    CHECK(mkdtemp(base));
    (void)atexit(restore);
    if (!mount_pages(dir, "weights", "pagesize=2M"))
        return SKIP;
    Program p;
    char segment[128];
    (void)snprintf(segment, sizeof(segment), "%s/model-%d", dir, getpid());
    program_make(&p, argv[1], segment);
    /* The manifest first, so that its digest is known. */
    CHECK(program_wait(program_start(&p, "auto")) == 0);
    CHECK(segment_evict(p.segment, NULL) == 0);
    CHECK(in_use_soon(NULL, before));
    uint64_t pages = segment_pages(&p);
    set_number(overcommit, overcommit_before + pages);
    if (counters().overcommit != overcommit_before + pages) {
        program_done(&p);
        return SKIP; /* a kernel's settings that may not be changed */
    }
    enough_pages(&p, pages, before);
    promised_pages(&p, pages, before);
    broken_promise(&p, pages, before);
    if (counters().free == 0) /* else somebody's persistent pages would do instead */
        too_few_pages(&p, pages, before);
    if (mount_pages(large, "gigantic", "pagesize=1G")) {
        large_model(&p);
        set_number(overcommit, 0);
        CHECK(program_wait(program_start(&p, "auto")) == 0); /* its manifest */
        CHECK(segment_evict(p.segment, NULL) == 0);
        gigantic_pages(&p);
    }
    program_done(&p);
    return 0;
}
