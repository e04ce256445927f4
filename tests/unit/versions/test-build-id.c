#include "test.h"

#include "versions/build-id.h"

#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A note as linkers write it; body is padded by the caller. */
static size_t put_note(
        uint8_t *to, uint32_t type, const char *owner, const void *body, size_t n_body) {
    Elf64_Nhdr head = {.n_namesz = 4, .n_descsz = (uint32_t)n_body, .n_type = type};
    memcpy(to, &head, sizeof(head));
    memcpy(to + sizeof(head), owner, 4);
    memcpy(to + sizeof(head) + 4, body, n_body);
    return sizeof(head) + 4 + n_body;
}

static void the_build_id_is_found_behind_other_notes(void **state) {
    uint8_t notes[128];
    char id[BUILD_ID_SIZE];
    size_t n = put_note(notes, 5, "GNU", "propertypropert", 16);
    n += put_note(notes + n, NT_GNU_BUILD_ID, "XYZ", "\1\2\3\4", 4);
    n += put_note(notes + n, NT_GNU_BUILD_ID, "GNU", "\xde\xad\xbe\xef", 4);
    build_id_of_notes(notes, n, id);
    assert_string_equal(id, "deadbeef");
    for (size_t cut = 0; cut < n; cut++) {
        uint8_t part[128];
        memcpy(part, notes, cut);
        build_id_of_notes(part, cut, id);
        assert_string_equal(id, "-");
    }
}

static void odd_notes_are_borne(void **state) {
    static const uint32_t lengths[] = {0, 1, 33, 4096, UINT32_MAX - 3, UINT32_MAX};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
        for (size_t k = 0; k < sizeof(lengths) / sizeof(lengths[0]); k++) {
            uint8_t notes[64] = {0};
            char id[BUILD_ID_SIZE];
            Elf64_Nhdr head = {
                    .n_namesz = lengths[i], .n_descsz = lengths[k], .n_type = NT_GNU_BUILD_ID};
            memcpy(notes, &head, sizeof(head));
            build_id_of_notes(notes, sizeof(notes), id);
            assert_string_equal(id, "-");
        }
}

static int look_for_libc(void *context, const char *soname, const char *id) {
    assert_true(strlen(soname) > 0 && strlen(id) > 0);
    if (strcmp(soname, "libc.so.6") == 0)
        *(bool *)context = true;
    return 0;
}

static int give_up(void *context, const char *soname, const char *id) {
    return -ENOSPC;
}

static void loaded_libraries_have_their_sonames(void **state) {
    bool found = false;
    assert_int_equal(build_id_walk(look_for_libc, &found), 0);
    assert_true(found);
    assert_int_equal(build_id_walk(give_up, NULL), -ENOSPC);
}

static void files_are_read_or_refused(void **state) {
    char id[BUILD_ID_SIZE], path[] = "/tmp/preheat-elf-XXXXXX";
    Err err = {0};
    assert_int_equal(build_id_of_file("/proc/self/exe", id, NULL), 0);
    assert_true(strcmp(id, "-") == 0 || strlen(id) >= 16);
    assert_int_equal(build_id_of_file("/nonexistent/library.so", id, &err), -ENOENT);
    assert_non_null(strstr(err_text(&err), "/nonexistent/library.so"));

    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(build_id_of_file(path, id, NULL), -EBADMSG);
    Elf64_Ehdr head = {.e_phoff = UINT64_MAX - 8, .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 3};
    memcpy(head.e_ident, ELFMAG, SELFMAG);
    head.e_ident[EI_CLASS] = ELFCLASS64;
    assert_int_equal(pwrite(fd, &head, sizeof(head), 0), (ssize_t)sizeof(head));
    assert_int_equal(build_id_of_file(path, id, NULL), -EBADMSG);
    head.e_phnum = UINT16_MAX;
    assert_int_equal(pwrite(fd, &head, sizeof(head), 0), (ssize_t)sizeof(head));
    assert_int_equal(build_id_of_file(path, id, NULL), -EBADMSG);
    assert_int_equal(close(fd), 0);
    assert_int_equal(unlink(path), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(the_build_id_is_found_behind_other_notes),
            cmocka_unit_test(odd_notes_are_borne),
            cmocka_unit_test(loaded_libraries_have_their_sonames),
            cmocka_unit_test(files_are_read_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
