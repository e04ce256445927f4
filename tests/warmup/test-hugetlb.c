/* The whole way on real hugetlbfs: reserve, fill, continue, too few pages, evict to the page. */
#include "program.h"
#include "warmup/hugepages.h"

#include <sys/mount.h>

enum { SKIP = 77 };

static uint64_t overcommit_before;
static char dir[] = "/tmp/preheat-huge-XXXXXX";

static void set_overcommit(uint64_t n) {
    FILE *f = fopen("/proc/sys/vm/nr_overcommit_hugepages", "we");
    if (f) {
        (void)fprintf(f, "%ju\n", (uintmax_t)n);
        (void)fclose(f);
    }
}

static void restore(void) {
    set_overcommit(overcommit_before);
    (void)umount2(dir, MNT_DETACH);
    (void)rmdir(dir);
}

static HugePages counters(void) {
    HugePages h;
    CHECK(hugepages_read(NULL, &h, NULL) == 0);
    return h;
}

int main(int argc, char **argv) {
    HugePages h;
    CHECK(argc == 2);
    if (hugepages_read(NULL, &h, NULL) < 0 || geteuid() != 0)
        return SKIP;
    overcommit_before = h.overcommit;
    CHECK(mkdtemp(dir));
    if (mount("none", dir, "hugetlbfs", MS_NOSUID | MS_NODEV, "pagesize=2M") < 0) {
        (void)rmdir(dir);
        return SKIP;
    }
    (void)atexit(restore);
    Program p;
    size_t n;
    char segment[128];
    (void)snprintf(segment, sizeof(segment), "%s/model", dir);
    program_make(&p, argv[1], segment);
    /* The manifest first, so that its digest is known. */
    CHECK(program_wait(program_start(&p, "auto")) == 0);
    Manifest *m;
    CHECK(manifest_load(p.kept, &m, NULL) == 0);
    uint64_t pages = manifest_segment_bytes(m) / HUGEPAGE_BYTES;
    manifest_free(m);
    set_overcommit(overcommit_before + pages);
    if (counters().overcommit != overcommit_before + pages) {
        program_done(&p);
        return SKIP; /* a kernel's settings that may not be changed */
    }
    h = counters();

    static const char *const readers[] = {"io_uring", "threads"};
    for (int i = 0; i < 2; i++) {
        (void)unlink(p.segment);
        CHECK(program_wait(program_start(&p, readers[i])) == 0);
        CHECK((size_t)program_look(&p, &n) == n);
        CHECK(access(p.segment, F_OK) == 0);
        HugePages used = counters();
        CHECK(used.total - used.free == h.total - h.free + pages);
        /* A second run finds everything. */
        CHECK(program_wait(program_start(&p, readers[i])) == 0);
        CHECK((size_t)program_look(&p, &n) == n);
    }
    CHECK(unlink(p.segment) == 0);
    HugePages after = counters();
    CHECK(after.total - after.free == h.total - h.free);

    /* One page too few: shared memory instead, and no huge page kept. */
    if (h.free > 0) {
        program_done(&p);
        return 0; /* somebody's persistent pages would do instead */
    }
    set_overcommit(h.surplus + pages - 1);
    CHECK(program_wait(program_start(&p, "auto")) == 0);
    CHECK(access(p.segment, F_OK) < 0);
    CHECK((size_t)program_look(&p, &n) == n);
    after = counters();
    CHECK(after.total - after.free == h.total - h.free);
    char *fallback = weights_place(p.segment, 2);
    CHECK(fallback && unlink(fallback) == 0);
    free(fallback);
    program_done(&p);
    return 0;
}
