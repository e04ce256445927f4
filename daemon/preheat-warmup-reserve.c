#include "preheat-warmup-reserve.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "base/size.h"
#include "base/str.h"
#include "config/config.h"
#include "store/places.h"
#include "warmup/hugepages.h"
#include "warmup/numa.h"
#include "warmup/reservation.h"

#include <sys/stat.h>

/* Pages of 1 GiB that are free, or the segment's already. */
static uint64_t gigantic_pages(const char *segment) {
    _cleanup_free_ char *path = places_path(segment, PLACE_GIGANTIC);
    struct stat st;
    HugePages h;
    if (hugepages_read(GIGANTIC_SYSFS, &h, NULL) < 0)
        return 0;
    uint64_t held = path && stat(path, &st) == 0 ? (uint64_t)st.st_blocks * 512 / GIB : 0;
    return hugepages_available(&h) + held;
}

/* What those leave for pages of 2 MiB; a second file has a header, too. */
static uint64_t pages_of_2m(const Manifest *m, const char *segment) {
    uint64_t pages = manifest_segment_bytes(m) / HUGEPAGE_BYTES, each = GIB / HUGEPAGE_BYTES;
    uint64_t gigantic = gigantic_pages(segment), rest = pages - MIN(pages, gigantic * each);
    return gigantic && rest ? MIN(rest + 1, pages) : rest;
}

/* The counters afterwards, and what was changed. */
static int ask_for(uint64_t wanted, Reservation *made, HugePages *h, Err *err) {
    int node = numa_gpu_node();
    _cleanup_free_ char *sysfs =
            str_format("/sys/devices/system/node/node%d/hugepages/hugepages-2048kB", node);
    if (!sysfs)
        return err_set(err, -ENOMEM, "no memory for a path");
    int r = hugepages_read(NULL, h, err);
    if (r < 0)
        return r;
    made->before = reservation_setting(made->mode, h);
    r = hugepages_reserve(NULL, made->mode, wanted, node < 0 ? NULL : sysfs, h, err);
    made->after = reservation_setting(made->mode, h);
    return r;
}

/* What is not noted would never be given back. */
static int note_down(const char *note, const Reservation *made, Err *err) {
    int r = note ? reservation_save(note, made, err) : 0;
    if (r < 0 && made->after != made->before)
        (void)hugepages_set(NULL, made->mode, made->before, NULL); /* the failure is told */
    return r;
}

int reserve_pages(const Manifest *m, const Reserve *how, Err *err) {
    uint64_t wanted = pages_of_2m(m, how->segment);
    bool permanent = how->mode == CONFIG_RESERVE_PERMANENT;
    Reservation made = {.mode = permanent ? HUGEPAGES_PERMANENT : HUGEPAGES_SURPLUS};
    HugePages h = {0};
    if (how->mode == CONFIG_RESERVE_NONE) {
        log_info("reserve = none: leaving the kernel's huge pages as they are, %ju are needed",
                (uintmax_t)wanted);
        return 0;
    }
    int r = ask_for(wanted, &made, &h, err);
    if (r == -EROFS) { /* a container */
        log_warning("%s; leaving it, %ju are needed", err_text(err), (uintmax_t)wanted);
        err_clear(err);
        return 0;
    }
    if (r == 0)
        r = note_down(how->note, &made, err);
    if (r < 0)
        return r;
    uint64_t got = permanent ? h.total : h.overcommit;
    log_line(got < wanted ? LOG_WARNING : LOG_INFO, NULL,
            "huge pages of 2 MiB, %s: wanted %ju, got %ju%s",
            permanent ? "permanent" : "surplus allowed", (uintmax_t)wanted, (uintmax_t)got,
            got < wanted ? ", the warm-up will use shared memory" : "");
    return 0;
}

int reserve_take_back(const char *note, Err *err) {
    Reservation made;
    int r = reservation_take_back(NULL, note, &made, err);
    if (r < 0 || r == RESERVATION_NONE)
        return r < 0 ? r : 0;
    const char *what = made.mode == HUGEPAGES_PERMANENT ? "huge pages of 2 MiB"
                                                        : "surplus huge pages of 2 MiB allowed";
    if (r == RESERVATION_CHANGED)
        log_notice("%s: no longer %ju, somebody else has changed it, leaving it", what,
                (uintmax_t)made.after);
    else
        log_info("%s: %ju again, was %ju", what, (uintmax_t)made.before, (uintmax_t)made.after);
    return 0;
}

int reserve_print(const Manifest *m, Err *err) {
    HugePages h = {0};
    int r = hugepages_read(NULL, &h, err);
    if (r < 0)
        return r;
    uint64_t wanted = manifest_segment_bytes(m) / HUGEPAGE_BYTES;
    (void)printf("needed      %ju pages of 2 MiB (%ju MiB)\n"
                 "available   %ju (%ju free, %ju of them promised, surplus %ju of %ju)\n"
                 "for now     sysctl vm.nr_overcommit_hugepages=%ju\n"
                 "from boot   hugepagesz=2M hugepages=%ju on the kernel command line\n",
            (uintmax_t)wanted, (uintmax_t)(wanted * 2), (uintmax_t)hugepages_available(&h),
            (uintmax_t)h.free, (uintmax_t)h.promised, (uintmax_t)h.surplus, (uintmax_t)h.overcommit,
            (uintmax_t)wanted, (uintmax_t)wanted);
    return 0;
}
