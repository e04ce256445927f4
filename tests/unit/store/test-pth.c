#include "test.h"

#include "base/io.h"
#include "base/str.h"
#include "store/pth.h"
#include "store/zip.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Files of torch.save() (tests/fuzz/make_pth.py), as they are and with bytes changed. */

static int open_corpus(const char *name, uint64_t *ret_bytes) {
    char path[512];
    struct stat st;
    (void)snprintf(path, sizeof(path), PTH_CORPUS "/%s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    *ret_bytes = (uint64_t)st.st_size;
    return fd;
}

static int read_corpus(const char *name, Pth *ret, Err *err) {
    uint64_t bytes;
    int fd = open_corpus(name, &bytes);
    int r = pth_read(fd, bytes, ret, err);
    close(fd);
    return r;
}

static const WeightEntry *find(const Pth *p, const char *name) {
    for (size_t i = 0; i < p->n_entries; i++)
        if (str_eq(p->entry[i].name, name))
            return &p->entry[i];
    fail_msg("there is no '%s'", name);
    return NULL;
}

static void good_files_have_their_tensors(void **state) {
    static const struct {
        const char *file;
        size_t n;
    } cases[] = {{"empty", 0}, {"dict", 3}, {"module", 4}, {"shared", 3}, {"slices", 3},
            {"many", 40}, {"unaligned", 1}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        Pth p;
        Err err = {0};
        if (read_corpus(cases[i].file, &p, &err) < 0)
            fail_msg("%s: %s", cases[i].file, err_text(&err));
        assert_int_equal(p.n_entries, cases[i].n);
        pth_done(&p);
    }
}

/* The bytes at an entry are those that torch had in memory. */
static void entries_are_where_the_bytes_are(void **state) {
    uint64_t n;
    Pth p;
    int fd = open_corpus("dict", &n);
    assert_int_equal(pth_read(fd, n, &p, NULL), 0);
    const WeightEntry *a = find(&p, "a"), *c = find(&p, "c");
    assert_int_equal(a->dtype, DTYPE_BF16);
    assert_int_equal(a->rank, 2);
    assert_int_equal(a->dim[0], 3);
    assert_int_equal(a->bytes, 12);
    assert_int_equal(a->offset % 64, 0);
    uint16_t ones[6], half;
    assert_int_equal(io_pread_all(fd, ones, sizeof(ones), a->offset), sizeof(ones));
    for (int i = 0; i < 6; i++)
        assert_int_equal(ones[i], 0x3f80);
    assert_int_equal(c->dtype, DTYPE_F16);
    assert_int_equal(c->rank, 0);
    assert_int_equal(io_pread_all(fd, &half, 2, c->offset), 2);
    assert_int_equal(half, 0x3e00);
    assert_true(p.head_bytes <= a->offset);
    pth_done(&p);
    close(fd);

    assert_int_equal(read_corpus("slices", &p, NULL), 0);
    assert_int_equal(find(&p, "back")->offset, find(&p, "front")->offset + 16);
    assert_int_equal(find(&p, "none")->bytes, 0);
    pth_done(&p);
    assert_int_equal(read_corpus("shared", &p, NULL), 0);
    assert_int_equal(find(&p, "a")->offset, find(&p, "view")->offset);
    pth_done(&p);
}

static void what_is_no_state_dict_is_refused(void **state) {
    static const struct {
        const char *file, *says;
    } cases[] = {
            {"overlap", "its tensors 'front' and 'back' have some bytes in common, not all"},
            {"transposed", "'transposed/data.pkl': 'a': a tensor [4,3] is not in row-major order"},
            {"integers", "asks for 'torch.LongStorage'"},
            {"nested", "its 'model' is a dictionary"},
            {"epoch", "its 'epoch' is a number"},
            {"list", "the opcode EMPTY_LIST"},
            {"float", "the opcode BINFLOAT"},
            {"object", "asks for '__main__.Layer'"},
            {"parameter", "asks for 'torch._utils._rebuild_parameter'"},
            {"protocol-4", "protocol 4"},
            {"deflated", "'deflated/data.pkl' is compressed"},
            {"late-pickle", "its tensor 'a' is before 'late-pickle/data.pkl'"},
            {"legacy", "does not end as a zip archive; torch.save() has written those since 1.6"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        Pth p;
        Err err = {0};
        int r = read_corpus(cases[i].file, &p, &err);
        if (r != -EBADMSG || !strstr(err_text(&err), cases[i].says))
            fail_msg("%s: %d, %s", cases[i].file, r, err_text(&err));
    }
}

typedef struct File {
    uint8_t *data;
    size_t n, room;
} File;

/* The n-th place of a text; counted from the end when n is negative. */
static size_t place(const File *f, const char *what, size_t n_what, int n) {
    size_t found[64] = {0}, count = 0;
    for (size_t i = 0; i + n_what <= f->n; i++)
        if (memcmp(f->data + i, what, n_what) == 0) {
            assert_true(count < 64);
            found[count++] = i;
        }
    size_t i = n < 0 ? count - (size_t)-n : (size_t)n;
    assert_true(i < count);
    return found[i];
}

/* Changes of the archive of "dict": its records are found by their signatures. */
#define HEADER(f, i) place(f, "PK\3\4", 4, i)
#define DIRECTORY(f, i) place(f, "PK\1\2", 4, i)
#define END64(f) place(f, "PK\6\6", 4, 0)
#define LOCATOR(f) place(f, "PK\6\7", 4, 0)
#define END(f) place(f, "PK\5\6", 4, 0)

static void put(File *f, size_t at, const void *bytes, size_t n) {
    assert_true(at + n <= f->n);
    memcpy(f->data + at, bytes, n);
}

static void trailing_byte(File *f) {
    f->data[f->n++] = 0;
}
static void comment(File *f) {
    put(f, END(f) + 20, "\1", 1);
    trailing_byte(f);
}
static void cut(File *f) {
    f->n -= 1;
}
static void tiny(File *f) {
    f->n = 21;
}
static void end_only(File *f) {
    memmove(f->data, f->data + END(f), 22);
    f->n = 22;
}
static void other_disk(File *f) {
    put(f, END(f) + 4, "\1", 1);
}
static void other_disk_64(File *f) {
    put(f, END64(f) + 16, "\1", 1);
}
static void locator_disk(File *f) {
    put(f, LOCATOR(f) + 4, "\1", 1);
}
static void locator_far(File *f) {
    put(f, LOCATOR(f) + 8, "\xff\xff\xff\xff\xff\xff\xff\x7f", 8);
}
static void locator_wrong(File *f) {
    put(f, LOCATOR(f) + 8, "\0\0", 2);
}
static void ends_differ(File *f) {
    put(f, END(f) + 12, "\1\1", 2);
}
static void many_entries(File *f) {
    put(f, END64(f) + 24, "\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1\0", 16);
    put(f, END(f) + 8, "\xff\xff\xff\xff", 4);
}
static void huge_directory(File *f) {
    put(f, END64(f) + 40, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    put(f, END(f) + 12, "\xff\xff\xff\xff", 4);
}
static void directory_moved(File *f) {
    put(f, END64(f) + 48, "\0\0", 2);
    put(f, END(f) + 16, "\xff\xff\xff\xff", 4);
}
static void fewer_entries(File *f) {
    put(f, END64(f) + 24, "\1\0\0\0\0\0\0\0\1", 9);
    put(f, END(f) + 8, "\1\0\1", 3);
}
static void more_entries(File *f) {
    put(f, END64(f) + 24, "\x20\0\0\0\0\0\0\0\x20", 9);
    put(f, END(f) + 8, "\x20\0\x20", 3);
}
static void directory_damaged(File *f) {
    put(f, DIRECTORY(f, 1), "XX", 2);
}
static void long_name(File *f) {
    put(f, DIRECTORY(f, -1) + 28, "\xff", 1);
}
static void no_name(File *f) {
    put(f, DIRECTORY(f, 0) + 28, "\0\0", 2);
}
static void latin1_name(File *f) {
    put(f, DIRECTORY(f, 0) + 46, "\xe9", 1);
}
static void nul_name(File *f) {
    put(f, DIRECTORY(f, 0) + 46, "", 1);
}
static void encrypted(File *f) {
    put(f, DIRECTORY(f, 0) + 8, "\1", 1);
}
static void deflated(File *f) {
    put(f, DIRECTORY(f, 0) + 10, "\10", 1);
}
static void other_size(File *f) {
    put(f, DIRECTORY(f, 0) + 20, "\1\0", 2);
}
static void deflated_in_header(File *f) {
    put(f, HEADER(f, 0) + 8, "\10", 1);
}
static void header_damaged(File *f) {
    put(f, HEADER(f, 1), "XX", 2);
}
static void header_far(File *f) {
    put(f, DIRECTORY(f, 0) + 42, "\xfe\xff\xff\xff", 4);
}
static void no_64_bit_sizes(File *f) {
    put(f, DIRECTORY(f, 0) + 42, "\xff\xff\xff\xff", 4);
}
static void long_padding(File *f) {
    put(f, HEADER(f, 3) + 28, "\xff\xff", 2);
}
static void huge_entry(File *f) {
    put(f, DIRECTORY(f, 0) + 20, "\xfe\xff\xff\xff\xfe\xff\xff\xff", 8);
}
static void twice(File *f) {
    put(f, place(f, "dict/data/1", 11, -1), "dict/data/0", 11);
}
static void no_pickle(File *f) {
    put(f, place(f, "dict/data.pkl", 13, -1), "dict/data.pkk", 13);
}
static void two_pickles(File *f) {
    put(f, place(f, "dict/byteorder", 14, -1), "dict/xdata.pkl", 14);
    put(f, place(f, "dict/xdata.pkl", 14, -1), "dict0/data.pkl", 14);
}
static void big_endian(File *f) {
    put(f, place(f, "little", 6, 0), "biggie", 6);
}
static void no_storage(File *f) {
    put(f, place(f, "dict/data/1", 11, -1), "dict/data/7", 11);
}
static void short_storage(File *f) {
    put(f, DIRECTORY(f, 5) + 20, "\14\0\0\0\14", 5);
}
static const struct {
    void (*change)(File *f);
    const char *says;
} changes[] = {
        {trailing_byte, "does not end as a zip archive"},
        {comment, "does not end as a zip archive"},
        {cut, "does not end as a zip archive"},
        {tiny, "has 21 bytes, too few"},
        {end_only, "it must end at 0"},
        {other_disk, "one of several parts"},
        {other_disk_64, "one of several parts"},
        {locator_disk, "one of several parts"},
        {locator_far, "its 64-bit end record is at byte 9223372036854775807"},
        {locator_wrong, "no 64-bit end record at byte 0"},
        {ends_differ, "contradict each other"},
        {many_entries, "the limits are 100000 and"},
        {huge_directory, "the limits are"},
        {directory_moved, "it must end at"},
        {fewer_entries, "bytes behind its 1 entries"},
        {more_entries, "directory is damaged behind 9 entries"},
        {directory_damaged, "directory is damaged behind 1 entries"},
        {long_name, "directory is cut behind 8 entries"},
        {no_name, "its entry 0 has a name that is not"},
        {latin1_name, "its entry 0 has a name that is not UTF-8"},
        {nul_name, "its entry 0 has a name that is not"},
        {encrypted, "'dict/data.pkl' is encrypted"},
        {deflated, "'dict/data.pkl' is compressed"},
        {other_size, "'dict/data.pkl' is compressed"},
        {deflated_in_header, "'dict/data.pkl' has another header"},
        {header_damaged, "'dict/.format_version' has another header"},
        {header_far, "'dict/data.pkl' is at byte 4294967294"},
        {no_64_bit_sizes, "'dict/data.pkl' has no 64-bit sizes"},
        {long_padding, "the directory is at byte"},
        {huge_entry, "'dict/data.pkl' has 4294967294 bytes"},
        {twice, "'dict/data/0' is there twice"},
        {no_pickle, "no entry 'data.pkl'"},
        {two_pickles, "two pickles, 'dict/data.pkl' and 'dict0/data.pkl'"},
        {big_endian, "'dict/byteorder' does not say 'little'"},
        {no_storage, "its tensor 'b' is in the storage '1', which has no entry"},
        {short_storage, "a storage of 4 elements F32, the entry 'dict/data/1' has 12 bytes"},
};

static void load(File *f, const char *name) {
    uint64_t n;
    int fd = open_corpus(name, &n);
    *f = (File){.data = malloc(n + 64), .n = n, .room = n + 64};
    assert_int_equal(io_read_all(fd, f->data, n), n);
    close(fd);
}

static int read_changed(const File *f, Pth *ret, Err *err) {
    int fd = memfd_create("pth", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(io_write_all(fd, f->data, f->n), 0);
    int r = pth_read(fd, f->n, ret, err);
    close(fd);
    return r;
}

static void changed_archives_are_refused(void **state) {
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        File f;
        Pth p;
        Err err = {0};
        load(&f, "dict");
        changes[i].change(&f);
        int r = read_changed(&f, &p, &err);
        if (r != -EBADMSG || !strstr(err_text(&err), changes[i].says))
            fail_msg("case %zu (%s): %d, %s", i, changes[i].says, r, err_text(&err));
        free(f.data);
    }
}

/* An archive without its 64-bit records is one, too. */
static void short_end_record_suffices(void **state) {
    File f;
    Pth p;
    Err err = {0};
    load(&f, "dict");
    size_t end64 = END64(&f), end = END(&f);
    memmove(f.data + end64, f.data + end, 22);
    f.n -= end - end64;
    if (read_changed(&f, &p, &err) < 0)
        fail_msg("%s", err_text(&err));
    assert_int_equal(p.n_entries, 3);
    pth_done(&p);
    free(f.data);
}

/* An archive of one entry x/data.pkl, as short as it can be, with n bytes behind `before` others.
 */
static void make_archive(File *f, size_t before, size_t n) {
    enum { HEADER_SIZE = 30, DIRECTORY_SIZE = 46, END_SIZE = 22, NAME_SIZE = 10 };
    uint32_t size = (uint32_t)n, at = (uint32_t)before, directory_size = DIRECTORY_SIZE + NAME_SIZE;
    uint32_t directory = at + HEADER_SIZE + NAME_SIZE + size;
    *f = (File){.n = directory + directory_size + END_SIZE};
    f->data = calloc(1, f->n);
    put(f, before, "PK\3\4", 4);
    put(f, before + 26, "\12", 1);
    put(f, before + HEADER_SIZE, "x/data.pkl", NAME_SIZE);
    put(f, directory, "PK\1\2", 4);
    put(f, directory + 20, &size, 4);
    put(f, directory + 24, &size, 4);
    put(f, directory + 28, "\12", 1);
    put(f, directory + 42, &at, 4);
    put(f, directory + DIRECTORY_SIZE, "x/data.pkl", NAME_SIZE);
    size_t end = directory + directory_size;
    put(f, end, "PK\5\6", 4);
    put(f, end + 8, "\1\0\1", 3);
    put(f, end + 12, &directory_size, 4);
    put(f, end + 16, &directory, 4);
}

static void size_and_place_of_the_pickle_are_limited(void **state) {
    static const struct {
        size_t before, n;
        const char *says;
    } cases[] = {
            {0, 3, "'x/data.pkl': it has the byte 0x00"},
            {0, PICKLE_MAX_BYTES + 1,
                    "has 4194305 bytes from byte 40 on, both must be at most 4194304"},
            {PICKLE_MAX_BYTES, 3, "has 3 bytes from byte 4194344 on, both must be at most 4194304"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        File f;
        Pth p;
        Err err = {0};
        make_archive(&f, cases[i].before, cases[i].n);
        int r = read_changed(&f, &p, &err);
        if (r != -EBADMSG || !strstr(err_text(&err), cases[i].says))
            fail_msg("case %zu: %d, %s", i, r, err_text(&err));
        free(f.data);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(good_files_have_their_tensors),
            cmocka_unit_test(entries_are_where_the_bytes_are),
            cmocka_unit_test(what_is_no_state_dict_is_refused),
            cmocka_unit_test(changed_archives_are_refused),
            cmocka_unit_test(short_end_record_suffices),
            cmocka_unit_test(size_and_place_of_the_pickle_are_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
