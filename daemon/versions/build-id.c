#include "versions/build-id.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"

#include <fcntl.h>
#include <link.h>
#include <stdio.h>

/* What is read of a file at most: linkers write some ten segments and a few hundred bytes of notes.
 */
enum { MAX_SEGMENTS = 64, MAX_NOTE_BYTES = 4096 };

static size_t padded(size_t n) {
    return (n + 3) & ~(size_t)3;
}

void build_id_of_notes(const void *notes, size_t n, char ret[static BUILD_ID_SIZE]) {
    static const char owner[] = "GNU";
    const uint8_t *at = notes;
    (void)snprintf(ret, BUILD_ID_SIZE, "-");
    while (n >= sizeof(ElfW(Nhdr))) {
        ElfW(Nhdr) head;
        memcpy(&head, at, sizeof(head));
        size_t name = padded(head.n_namesz), body = padded(head.n_descsz);
        size_t left = n - sizeof(head);
        if (name > left || body > left - name)
            return;
        const uint8_t *id = at + sizeof(head) + name;
        if (head.n_type == NT_GNU_BUILD_ID && head.n_namesz == sizeof(owner) &&
                memcmp(at + sizeof(head), owner, sizeof(owner)) == 0 && head.n_descsz > 0 &&
                head.n_descsz <= (BUILD_ID_SIZE - 1) / 2) {
            for (size_t i = 0; i < head.n_descsz; i++)
                (void)snprintf(ret + 2 * i, 3, "%02x", id[i]);
            return;
        }
        at = id + body;
        n = left - name - body;
    }
}

typedef struct Walk {
    BuildIdFunc *func;
    void *context;
} Walk;

/* The DT_SONAME of a loaded library: the dynamic loader has checked what is read here. The loader
 * relocates DT_STRTAB except where the section is read-only, as in the vdso. */
static const char *loaded_soname(const struct dl_phdr_info *info, const ElfW(Phdr) * dynamic) {
    const ElfW(Dyn) *d = (const void *)(info->dlpi_addr + dynamic->p_vaddr);
    const char *strings = NULL;
    size_t offset = 0;
    for (; d->d_tag != DT_NULL; d++) {
        if (d->d_tag == DT_STRTAB)
            strings = (const char *)d->d_un.d_ptr; /* NOLINT(performance-no-int-to-ptr) */
        if (d->d_tag == DT_SONAME)
            offset = d->d_un.d_val;
    }
    return strings && offset && (uintptr_t)strings >= info->dlpi_addr ? strings + offset : NULL;
}

static int look_at_loaded(struct dl_phdr_info *info, size_t size, void *context) {
    const Walk *w = context;
    const char *soname = NULL;
    char id[BUILD_ID_SIZE] = "-";
    if (!info->dlpi_name || info->dlpi_name[0] != '/') /* the program; the vdso */
        return 0;
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        const void *data = (const void *)(info->dlpi_addr + p->p_vaddr);
        if (p->p_type == PT_DYNAMIC)
            soname = loaded_soname(info, p);
        if (p->p_type == PT_NOTE && str_eq(id, "-"))
            build_id_of_notes(data, p->p_memsz, id);
    }
    return soname ? w->func(w->context, soname, id) : 0;
}

int build_id_walk(BuildIdFunc *func, void *context) {
    Walk w = {.func = func, .context = context};
    return dl_iterate_phdr(look_at_loaded, &w);
}

static int bad_file(const char *path, Err *err) {
    return err_set(err, -EBADMSG, "'%s' is no library or program of this machine", path);
}

int build_id_of_file(const char *path, char ret[static BUILD_ID_SIZE], Err *err) {
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    ElfW(Ehdr) head;
    ElfW(Phdr) segments[MAX_SEGMENTS];
    if (fd < 0)
        return err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));
    ssize_t n = io_pread_all(fd, &head, sizeof(head), 0);
    if (n < 0)
        return err_set(err, (int)n, "cannot read '%s': %s", path, strerror((int)-n));
    if ((size_t)n < sizeof(head) || memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 ||
            head.e_ident[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32) ||
            head.e_phentsize != sizeof(ElfW(Phdr)) || head.e_phnum > MAX_SEGMENTS)
        return bad_file(path, err);
    size_t bytes = head.e_phnum * sizeof(ElfW(Phdr));
    if (io_pread_all(fd, segments, bytes, head.e_phoff) != (ssize_t)bytes)
        return bad_file(path, err);
    (void)snprintf(ret, BUILD_ID_SIZE, "-");
    for (size_t i = 0; i < head.e_phnum && str_eq(ret, "-"); i++) {
        _Alignas(8) uint8_t notes[MAX_NOTE_BYTES];
        if (segments[i].p_type != PT_NOTE || segments[i].p_filesz > sizeof(notes))
            continue;
        n = io_pread_all(fd, notes, segments[i].p_filesz, segments[i].p_offset);
        if (n < 0 || (size_t)n < segments[i].p_filesz)
            return bad_file(path, err);
        build_id_of_notes(notes, (size_t)n, ret);
    }
    return 0;
}
