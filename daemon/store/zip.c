#include "store/zip.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"

/* Little-endian records, from the end of the file backwards:
 *
 *   end record          22  signature, disks, entries, size and place of the directory, comment
 *   64-bit locator      20  only with the next: where that is
 *   64-bit end record   56  the same numbers as the end record in 64 bits
 *   directory               46 an entry, with its name, extra fields, comment
 *   entries                 30 a header, with name and extra fields of its own, contents
 *
 * A number that is all ones stands in the 64-bit record, or in the extra field 1 of an entry. */
enum {
    END_BYTES = 22,
    LOCATOR_BYTES = 20,
    END64_BYTES = 56,
    DIRECTORY_BYTES = 46,
    HEADER_BYTES = 30,
    SIGNATURE_END = 0x06054b50,
    SIGNATURE_LOCATOR = 0x07064b50,
    SIGNATURE_END64 = 0x06064b50,
    SIGNATURE_DIRECTORY = 0x02014b50,
    SIGNATURE_HEADER = 0x04034b50,
    FLAG_ENCRYPTED = 1,
    EXTRA_64 = 1,
};

static uint16_t le16(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t le32(const uint8_t *p) {
    return le16(p) | (uint32_t)le16(p + 2) << 16;
}

static uint64_t le64(const uint8_t *p) {
    return le32(p) | (uint64_t)le32(p + 4) << 32;
}

/* Where the directory is. */
typedef struct End {
    uint64_t n_entries, bytes, offset;
    uint64_t behind; /* the place of the record that follows it */
} End;

static int read_at(int fd, uint64_t at, void *to, size_t n, Err *err) {
    ssize_t got = io_pread_all(fd, to, n, at);
    if (got < 0)
        return err_set(err, (int)got, "cannot read it at byte %ju: %s", (uintmax_t)at,
                strerror((int)-got));
    if ((size_t)got < n)
        return err_set(err, -EBADMSG, "it ends at byte %ju, records are wanted up to byte %ju",
                (uintmax_t)(at + (uint64_t)got), (uintmax_t)(at + n));
    return 0;
}

static int read_end64(int fd, uint64_t locator_at, const uint8_t *locator, End *e, Err *err) {
    uint8_t r[END64_BYTES];
    uint64_t at = le64(locator + 8);
    if (le32(locator + 4) != 0 || le32(locator + 16) > 1)
        return err_set(err, -EBADMSG, "it is one of several parts of an archive");
    if (locator_at < END64_BYTES || at > locator_at - END64_BYTES)
        return err_set(err, -EBADMSG, "its 64-bit end record is at byte %ju of %ju", (uintmax_t)at,
                (uintmax_t)locator_at);
    int rc = read_at(fd, at, r, sizeof(r), err);
    if (rc < 0)
        return rc;
    if (le32(r) != SIGNATURE_END64 || le64(r + 4) < END64_BYTES - 12)
        return err_set(err, -EBADMSG, "it has no 64-bit end record at byte %ju", (uintmax_t)at);
    if (le32(r + 16) != 0 || le32(r + 20) != 0 || le64(r + 24) != le64(r + 32))
        return err_set(err, -EBADMSG, "it is one of several parts of an archive");
    *e = (End){
            .n_entries = le64(r + 32), .bytes = le64(r + 40), .offset = le64(r + 48), .behind = at};
    return 0;
}

/* The short record says the same, or that it cannot say it. */
static bool ends_agree(const End *short_end, const End *e) {
    return (short_end->n_entries == UINT16_MAX || short_end->n_entries == e->n_entries) &&
           (short_end->bytes == UINT32_MAX || short_end->bytes == e->bytes) &&
           (short_end->offset == UINT32_MAX || short_end->offset == e->offset);
}

static int read_end(int fd, uint64_t file_bytes, End *ret, Err *err) {
    uint8_t r[LOCATOR_BYTES + END_BYTES] = {0};
    if (file_bytes < END_BYTES)
        return err_set(err, -EBADMSG, "it has %ju bytes, too few for a zip archive",
                (uintmax_t)file_bytes);
    size_t n = file_bytes < sizeof(r) ? END_BYTES : sizeof(r);
    uint64_t at = file_bytes - END_BYTES;
    const uint8_t *end = r + LOCATOR_BYTES;
    int rc = read_at(fd, file_bytes - n, r + sizeof(r) - n, n, err);
    if (rc < 0)
        return rc;
    if (le32(end) != SIGNATURE_END || le16(end + 20) != 0)
        return err_set(err, -EBADMSG,
                "it does not end as a zip archive; torch.save() has written those since 1.6");
    if (le16(end + 4) != 0 || le16(end + 6) != 0 || le16(end + 8) != le16(end + 10))
        return err_set(err, -EBADMSG, "it is one of several parts of an archive");
    End e = {.n_entries = le16(end + 10),
            .bytes = le32(end + 12),
            .offset = le32(end + 16),
            .behind = at};
    if (le32(r) == SIGNATURE_LOCATOR) {
        End e64 = {0};
        rc = read_end64(fd, at - LOCATOR_BYTES, r, &e64, err);
        if (rc < 0)
            return rc;
        if (!ends_agree(&e, &e64))
            return err_set(err, -EBADMSG, "its two end records contradict each other");
        e = e64;
    }
    if (e.n_entries > ZIP_MAX_ENTRIES || e.bytes > ZIP_MAX_DIRECTORY)
        return err_set(err, -EBADMSG,
                "its directory has %ju entries in %ju bytes, the limits are %d and %d",
                (uintmax_t)e.n_entries, (uintmax_t)e.bytes, ZIP_MAX_ENTRIES, ZIP_MAX_DIRECTORY);
    if (e.bytes > e.behind || e.offset != e.behind - e.bytes)
        return err_set(err, -EBADMSG,
                "its directory of %ju bytes is at byte %ju, it must end at %ju", (uintmax_t)e.bytes,
                (uintmax_t)e.offset, (uintmax_t)e.behind);
    *ret = e;
    return 0;
}

/* Numbers of an entry that did not fit 32 bits: uncompressed, compressed, place, in this order and
 * only those. */
static int read_extra(
        const uint8_t *extra, size_t n, uint64_t *numbers[3], const ZipEntry *e, Err *err) {
    for (size_t at = 0; n - at >= 4;) {
        const uint8_t *field = extra + at;
        size_t bytes = le16(field + 2);
        if (bytes > n - at - 4)
            break;
        at += 4 + bytes;
        if (le16(field) != EXTRA_64)
            continue;
        field += 4;
        for (int i = 0; i < 3; i++) {
            if (*numbers[i] != UINT32_MAX)
                continue;
            if (bytes < 8)
                break;
            *numbers[i] = le64(field);
            field += 8;
            bytes -= 8;
        }
        return 0;
    }
    for (int i = 0; i < 3; i++)
        if (*numbers[i] == UINT32_MAX)
            return err_set(err, -EBADMSG, "its entry '%s' has no 64-bit sizes", e->name);
    return 0;
}

/* One entry of the directory; *n_left is what is left of it. */
static int read_directory_entry(Zip *z, const uint8_t **at, size_t *n_left, ZipEntry *e, Err *err) {
    const uint8_t *r = *at;
    if (*n_left < DIRECTORY_BYTES || le32(r) != SIGNATURE_DIRECTORY)
        return err_set(err, -EBADMSG, "its directory is damaged behind %zu entries", z->n_entries);
    size_t n_name = le16(r + 28), n_extra = le16(r + 30), n_comment = le16(r + 32);
    size_t n = DIRECTORY_BYTES + n_name + n_extra + n_comment;
    if (*n_left < n)
        return err_set(err, -EBADMSG, "its directory is cut behind %zu entries", z->n_entries);
    const char *name = (const char *)r + DIRECTORY_BYTES;
    if (n_name == 0 || !str_is_utf8(name, n_name) || memchr(name, '\0', n_name))
        return err_set(err, -EBADMSG, "its entry %zu has a name that is not UTF-8", z->n_entries);
    e->name = arena_strndup(&z->arena, name, n_name);
    if (!e->name)
        return err_set(err, -ENOMEM, "no memory for an entry's name");

    uint64_t compressed = le32(r + 20);
    e->bytes = le32(r + 24);
    e->header = le32(r + 42);
    uint64_t *numbers[] = {&e->bytes, &compressed, &e->header};
    int rc = read_extra(r + DIRECTORY_BYTES + n_name, n_extra, numbers, e, err);
    if (rc < 0)
        return rc;
    if (le16(r + 8) & FLAG_ENCRYPTED)
        return err_set(err, -EBADMSG, "its entry '%s' is encrypted", e->name);
    if (le16(r + 10) != 0 || compressed != e->bytes)
        return err_set(err, -EBADMSG,
                "its entry '%s' is compressed; torch.save() stores, and nothing is unpacked",
                e->name);
    *at += n;
    *n_left -= n;
    return 0;
}

/* The contents begin behind the entry's own header, whose extra field (torch's padding) has another
 * length than the directory's. */
static int locate(int fd, uint64_t end, ZipEntry *e, Err *err) {
    uint8_t r[HEADER_BYTES];
    if (e->header > end || end - e->header < HEADER_BYTES)
        return err_set(err, -EBADMSG, "its entry '%s' is at byte %ju of %ju", e->name,
                (uintmax_t)e->header, (uintmax_t)end);
    int rc = read_at(fd, e->header, r, sizeof(r), err);
    if (rc < 0)
        return rc;
    if (le32(r) != SIGNATURE_HEADER || le16(r + 8) != 0 || le16(r + 26) != strlen(e->name))
        return err_set(err, -EBADMSG, "its entry '%s' has another header than the directory says",
                e->name);
    uint64_t left = end - e->header - HEADER_BYTES, skip = (uint64_t)le16(r + 26) + le16(r + 28);
    if (skip > left || e->bytes > left - skip)
        return err_set(err, -EBADMSG,
                "its entry '%s' has %ju bytes from byte %ju on, the directory is at byte %ju",
                e->name, (uintmax_t)e->bytes, (uintmax_t)(e->header + HEADER_BYTES + skip),
                (uintmax_t)end);
    e->offset = e->header + HEADER_BYTES + skip;
    return 0;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const ZipEntry *)a)->name, ((const ZipEntry *)b)->name);
}

static int read_entries(int fd, const End *end, Zip *z, Err *err) {
    _cleanup_free_ uint8_t *directory = malloc((size_t)end->bytes + 1);
    z->entry = arena_alloc(&z->arena, ((size_t)end->n_entries + 1) * sizeof(*z->entry));
    if (!directory || !z->entry)
        return err_set(
                err, -ENOMEM, "no memory for a directory of %ju bytes", (uintmax_t)end->bytes);
    int r = read_at(fd, end->offset, directory, (size_t)end->bytes, err);
    const uint8_t *at = directory;
    size_t n_left = (size_t)end->bytes;
    for (; r == 0 && z->n_entries < end->n_entries; z->n_entries++) {
        ZipEntry *e = &z->entry[z->n_entries];
        r = read_directory_entry(z, &at, &n_left, e, err);
        if (r == 0)
            r = locate(fd, end->offset, e, err);
    }
    if (r < 0)
        return r;
    if (n_left > 0)
        return err_set(err, -EBADMSG, "its directory has %zu bytes behind its %zu entries", n_left,
                z->n_entries);
    qsort(z->entry, z->n_entries, sizeof(*z->entry), by_name);
    for (size_t i = 1; i < z->n_entries; i++)
        if (str_eq(z->entry[i - 1].name, z->entry[i].name))
            return err_set(err, -EBADMSG, "its entry '%s' is there twice", z->entry[i].name);
    return 0;
}

int zip_read(int fd, uint64_t file_bytes, Zip *ret, Err *err) {
    End end = {0};
    Zip z = {0};
    int r = read_end(fd, file_bytes, &end, err);
    if (r == 0)
        r = read_entries(fd, &end, &z, err);
    if (r < 0) {
        zip_done(&z);
        return r;
    }
    *ret = z;
    return 0;
}

const ZipEntry *zip_find(const Zip *z, const char *name) {
    ZipEntry key = {.name = name};
    return bsearch(&key, z->entry, z->n_entries, sizeof(key), by_name);
}

void zip_done(Zip *z) {
    arena_done(&z->arena);
    *z = (Zip){0};
}
