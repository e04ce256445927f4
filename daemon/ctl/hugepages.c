#include "ctl/hugepages.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/macro.h"
#include "base/str.h"

#include <fcntl.h>

static int read_number(const char *dir, const char *name, uint64_t *ret, Err *err) {
    _cleanup_free_ char *path = str_format("%s/%s", dir, name);
    if (!path)
        return err_set(err, -ENOMEM, "no memory for a path");
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set(err, -errno, "cannot read '%s': %s", path, strerror(errno));
    char text[32]; /* a number and a line end */
    ssize_t n = io_read_all(fd, text, sizeof(text) - 1);
    if (n < 0)
        return err_set(err, (int)n, "cannot read '%s': %s", path, strerror((int)-n));
    text[n] = '\0';
    text[strcspn(text, "\n")] = '\0';
    if (str_to_u64(text, ret) < 0)
        return err_set(err, -EBADMSG, "'%s' holds '%s', a number is wanted", path, text);
    return 0;
}

int hugepages_read(const char *dir, HugePages *ret, Err *err) {
    HugePages p;
    const struct {
        const char *name;
        uint64_t *value;
    } files[] = {
            {"nr_hugepages", &p.total},
            {"free_hugepages", &p.free},
            {"resv_hugepages", &p.reserved},
            {"surplus_hugepages", &p.surplus},
            {"nr_overcommit_hugepages", &p.overcommit},
    };
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        int r = read_number(dir, files[i].name, files[i].value, err);
        if (r < 0)
            return r;
    }
    *ret = p;
    return 0;
}

uint64_t hugepages_available(const HugePages *p) {
    uint64_t free_pages = p->free > p->reserved ? p->free - p->reserved : 0;
    return free_pages + (p->overcommit > p->surplus ? p->overcommit - p->surplus : 0);
}

json_t *hugepages_json(const HugePages *p, uint64_t n_needed) {
    return json_pack("{sI sI sI sI sI sI}", "total", (json_int_t)p->total, "free",
            (json_int_t)p->free, "reserved", (json_int_t)p->reserved, "surplus",
            (json_int_t)p->surplus, "overcommit", (json_int_t)p->overcommit, "needed",
            (json_int_t)n_needed);
}

void hugepages_print(
        const HugePages *p, const char *model, uint64_t n_needed, uint64_t n_held, FILE *out) {
    uint64_t have = hugepages_available(p);
    uint64_t missing = n_needed > have + n_held ? n_needed - have - n_held : 0;
    (void)fprintf(out, "Model '%s' takes %ju huge pages of 2 MiB (%ju MiB)", model,
            (uintmax_t)n_needed, (uintmax_t)(n_needed * 2));
    if (n_held)
        (void)fprintf(out, ", %ju of them held by its segment", (uintmax_t)n_held);
    (void)fprintf(out,
            ".\nThe kernel has %ju, %ju of them free, %ju surplus; up to %ju may be surplus.\n",
            (uintmax_t)p->total, (uintmax_t)p->free, (uintmax_t)p->surplus,
            (uintmax_t)p->overcommit);
    if (!missing) {
        (void)fprintf(out, "That is enough.\n");
        return;
    }
    uint64_t overcommit = p->overcommit + missing, permanent = p->total - p->surplus + missing;
    (void)fprintf(out,
            "%ju are missing. Any one of these, as root:\n"
            "  taken on demand, given back   sysctl vm.nr_overcommit_hugepages=%ju\n"
            "  reserved now                  sysctl vm.nr_hugepages=%ju\n"
            "  at every boot                 echo vm.nr_overcommit_hugepages=%ju > "
            "/etc/sysctl.d/60-preheat.conf\n"
            "  on the kernel command line    hugepagesz=2M hugepages=%ju\n"
            "  in pages of 1 GiB             hugepagesz=1G hugepages=%ju on the kernel "
            "command line\n",
            (uintmax_t)missing, (uintmax_t)overcommit, (uintmax_t)permanent, (uintmax_t)overcommit,
            (uintmax_t)permanent, (uintmax_t)((n_needed + 511) / 512));
}
