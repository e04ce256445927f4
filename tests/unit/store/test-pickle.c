#include "test.h"

#include "store/pickle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Pickles by hand. Only one-byte lengths and numbers below 256 are used. */
#define PROTO "\x80\x02"
#define TEXT(n, text) "X" n "\0\0\0" text
#define ORDERED "ccollections\nOrderedDict\n)R"
#define REBUILD "ctorch._utils\n_rebuild_tensor_v2\n"
#define STORAGE(type, count)                                                                       \
    "(" TEXT("\7", "storage") "ctorch\n" type "\n" TEXT("\1", "k") TEXT("\3", "cpu") count "tQ"
#define F32(count) STORAGE("FloatStorage", count)
#define TENSOR(storage, first, size, stride)                                                       \
    REBUILD "(" storage first size stride "\x89" ORDERED "tR"
#define ONE TENSOR(F32("K\6"), "K\0", "K\2K\3\x86", "K\3K\1\x86") /* [2,3] */
#define DICT(key, value) PROTO "}" TEXT("\1", key) value "s."
#define ITEM(value) DICT("a", value)

#define CASE(code, says, bytes)                                                                    \
    { code, says, bytes, sizeof(bytes) - 1 }

typedef struct Case {
    int code;
    const char *says, *bytes;
    size_t n;
} Case;

/* A copy without a byte more, so that a sanitizer sees reads beyond it. */
static int parse_of(const char *bytes, size_t n, Pickle *ret, Err *err) {
    char *exact = malloc(n ? n : 1);
    memcpy(exact, bytes, n);
    int r = pickle_parse(exact, n, ret, err);
    free(exact);
    return r;
}

static void tensors_have_name_place_and_shape(void **state) {
    static const char two[] = PROTO ORDERED "(" TEXT("\1", "a") ONE TEXT("\1", "b")
            TENSOR(STORAGE("BFloat16Storage", "M\0\1"), "M\4\0", "K\5\x85", "K\1\x85") "u.";
    Pickle p;
    Err err = {0};
    if (parse_of(two, sizeof(two) - 1, &p, &err) < 0)
        fail_msg("%s", err_text(&err));
    assert_int_equal(p.n_tensors, 2);
    assert_string_equal(p.tensor[0].name, "a");
    assert_string_equal(p.tensor[0].storage, "k");
    assert_int_equal(p.tensor[0].dtype, DTYPE_F32);
    assert_int_equal(p.tensor[0].rank, 2);
    assert_int_equal(p.tensor[0].dim[0], 2);
    assert_int_equal(p.tensor[0].dim[1], 3);
    assert_int_equal(p.tensor[0].count, 6);
    assert_int_equal(p.tensor[1].dtype, DTYPE_BF16);
    assert_int_equal(p.tensor[1].storage_count, 256);
    assert_int_equal(p.tensor[1].first, 4);
    assert_int_equal(p.tensor[1].count, 5);
    pickle_done(&p);
}

static const Case good[] = {
        CASE(0, "", PROTO "}."),
        CASE(0, "", PROTO ORDERED "."),
        /* An attribute; numbers, texts and dictionaries in it do not matter. */
        CASE(0, "",
                PROTO ORDERED "}" TEXT("\x9", "_metadata")
                        ORDERED TEXT("\0", "") "}" TEXT("\7", "version") "K\1ss"
                                                                         "sb."),
        CASE(0, "", ITEM(TENSOR(F32("K\1"), "K\0", ")", ")"))),
        /* Strides of axes of one, and of tensors without elements, say nothing. */
        CASE(0, "", ITEM(TENSOR(F32("K\6"), "K\0", "K\1K\6\x86", "K\x63K\1\x86"))),
        CASE(0, "", ITEM(TENSOR(F32("K\0"), "K\0", "K\0K\6\x86", "K\x63K\x09\x86"))),
        /* Numbers of every length. */
        CASE(0, "",
                ITEM(TENSOR(F32("\x8a\5\0\0\0\0\1"), "\x8a\0", "J\2\0\0\0M\3\0\x86",
                        "\x8a\1\3K\1\x86"))),
        /* Memo, both widths. */
        CASE(0, "", PROTO "}" TEXT("\1", "a") "q\5" ONE "r\7\0\0\0s."),
        CASE(0, "", PROTO "}(" TEXT("\1", "a") "q\0" ONE "q\1h\0j\1\0\0\0u."),
        /* A dictionary that holds itself is no tensor, but is not walked either. */
        CASE(0, "", PROTO ORDERED "}q\0" TEXT("\x9", "_metadata") "h\0sb."),
};

static void what_torch_writes_passes(void **state) {
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        Err err = {0};
        Pickle p;
        int r = parse_of(good[i].bytes, good[i].n, &p, &err);
        if (r < 0)
            fail_msg("case %zu: %s", i, err_text(&err));
        pickle_done(&p);
    }
}

static const Case bad[] = {
        CASE(-EBADMSG, "cut at byte 0", ""),
        CASE(-EBADMSG, "protocol 4, torch writes 2", "\x80\4}."),
        CASE(-EBADMSG, "cut at byte", PROTO "}" TEXT("\1", "a") "X\xff\xff\xff\xff"),
        CASE(-EBADMSG, "values and 1 bytes left over", PROTO "}.N"),
        CASE(-EBADMSG, "ends with 1 values", PROTO "}}."),
        CASE(-EBADMSG, "0xff at byte 2, which is no opcode", PROTO "\xff"),
        /* What runs code, or only could. */
        CASE(-EBADMSG, "asks for 'os.system'", PROTO "cos\nsystem\n" TEXT("\2", "id") "\x85R."),
        CASE(-EBADMSG, "asks for 'builtins.eval'", PROTO "cbuiltins\neval\n."),
        CASE(-EBADMSG, "asks for 'torch.load'", PROTO "ctorch\nload\n."),
        CASE(-EBADMSG, "asks for 'torch.LongStorage'", ITEM(STORAGE("LongStorage", "K\1"))),
        CASE(-EBADMSG, "asks for 'collections.OrderedDict.x'",
                PROTO "ccollections\nOrderedDict.x\n"),
        CASE(-EBADMSG, "asks for 'torch._utils._rebuild_parameter'",
                PROTO "ctorch._utils\n_rebuild_parameter\n"),
        CASE(-EBADMSG, "line that does not end", PROTO "ccollections"),
        CASE(-EBADMSG, "line that does not end", PROTO "ccollections\nOrderedDict"),
        CASE(-EBADMSG, "not UTF-8", PROTO "c\xff\xfe\nx\n"),
        CASE(-EBADMSG, "the opcode INST at byte 3", PROTO "(ios\nsystem\n."),
        CASE(-EBADMSG, "the opcode OBJ", PROTO "o"),
        CASE(-EBADMSG, "the opcode NEWOBJ", PROTO "\x81"),
        CASE(-EBADMSG, "the opcode NEWOBJ_EX", PROTO "\x92"),
        CASE(-EBADMSG, "the opcode STACK_GLOBAL", PROTO "\x93"),
        CASE(-EBADMSG, "the opcode EXT1", PROTO "\x82\1"),
        CASE(-EBADMSG, "the opcode PERSID", PROTO "P0\n"),
        CASE(-EBADMSG, "the opcode EMPTY_LIST", PROTO "]."),
        CASE(-EBADMSG, "the opcode BINFLOAT", PROTO "G"),
        CASE(-EBADMSG, "the opcode FRAME", PROTO "\x95"),
        CASE(-EBADMSG, "calls 'collections.OrderedDict' with 1 values",
                PROTO "ccollections\nOrderedDict\n}\x85R."),
        CASE(-EBADMSG, "calls 'torch.FloatStorage'", PROTO "ctorch\nFloatStorage\n)R."),
        CASE(-EBADMSG, "what is called is a dictionary", PROTO "})R."),
        CASE(-EBADMSG, "what a callable is given is a dictionary",
                PROTO "ccollections\nOrderedDict\n}R."),
        CASE(-EBADMSG, "sets the attribute '__class__'",
                PROTO ORDERED "}" TEXT("\x9", "__class__") "Nsb."),
        CASE(-EBADMSG, "sets the attribute 'a number'", PROTO ORDERED "}K\1Nsb."),
        CASE(-EBADMSG, "what BUILD is given is None", PROTO ORDERED "Nb."),
        CASE(-EBADMSG, "what BUILD changes is a number", PROTO "K\1}b."),
        /* The stack. */
        CASE(-EBADMSG, "empty stack", PROTO "."),
        CASE(-EBADMSG, "empty stack", PROTO "R"),
        CASE(-EBADMSG, "empty stack", PROTO "Q"),
        CASE(-EBADMSG, "empty stack", PROTO "N\x86"),
        CASE(-EBADMSG, "empty stack", PROTO "N(\x85"),
        CASE(-EBADMSG, "empty stack", PROTO "}(NNs"),
        CASE(-EBADMSG, "a list that it did not begin", PROTO "}t"),
        CASE(-EBADMSG, "a list that it did not begin", PROTO "}u"),
        CASE(-EBADMSG, "sets items of nothing", PROTO "(u"),
        CASE(-EBADMSG, "sets items of None", PROTO "NNNs"),
        CASE(-EBADMSG, "a key and no value", PROTO "}(Nu"),
        CASE(-EBADMSG, "remembers a value of an empty stack", PROTO "q\0"),
        CASE(-EBADMSG, "remembers a value as number 4294967295", PROTO "Nr\xff\xff\xff\xff"),
        CASE(-EBADMSG, "recalls the value number 3", PROTO "h\3"),
        CASE(-EBADMSG, "recalls the value number 1", PROTO "Nq\2h\1"),
        CASE(-EBADMSG, "a number of 9 bytes",
                PROTO "\x8a\x9"
                      "123456789"),
        CASE(-EBADMSG, "not UTF-8, or has a NUL", PROTO "}" TEXT("\1", "\xff")),
        CASE(-EBADMSG, "not UTF-8, or has a NUL", PROTO "}" TEXT("\2", "a\0")),
        /* What is in the dictionary. */
        CASE(-EBADMSG, "holds a tensor, wanted is a dictionary", PROTO ONE "."),
        CASE(-EBADMSG, "holds a tuple", PROTO "}\x85."),
        CASE(-EBADMSG, "its 'a' is a number", ITEM("K\1")),
        CASE(-EBADMSG, "its 'a' is a dictionary", ITEM("}")),
        CASE(-EBADMSG, "its 'a' is a storage", ITEM(F32("K\1"))),
        CASE(-EBADMSG, "a number for a tensor's name", PROTO "}K\1" ONE "s."),
        /* Storages. */
        CASE(-EBADMSG, "names a storage by other things", ITEM("(NNNNNtQ")),
        CASE(-EBADMSG, "names a storage by other things",
                ITEM("(" TEXT("\7", "storage") "ctorch\nFloatStorage\n" TEXT("\1", "k") "K\1tQ")),
        CASE(-EBADMSG, "names a storage by other things", ITEM(F32("J\xff\xff\xff\xff"))),
        CASE(-EBADMSG, "what names a storage is a text", ITEM(TEXT("\1", "k") "Q")),
        /* Tensors. */
        CASE(-EBADMSG, "makes a tensor of other things", ITEM(REBUILD ")R")),
        CASE(-EBADMSG, "makes a tensor of other things", ITEM(REBUILD "(NNNNNNtR")),
        CASE(-EBADMSG, "makes a tensor of other things", ITEM(TENSOR(F32("K\6"), "N", ")", ")"))),
        CASE(-EBADMSG, "no pair of tuples", ITEM(TENSOR(F32("K\6"), "K\0", "K\6\x85", ")"))),
        CASE(-EBADMSG, "no pair of tuples", ITEM(TENSOR(F32("K\6"), "K\0", "K\6", "K\1\x85"))),
        CASE(-EBADMSG, "has 6 axes, at most 5",
                ITEM(TENSOR(F32("K\6"), "K\0", "(K\1K\1K\1K\1K\1K\1t", "(K\1K\1K\1K\1K\1K\1t"))),
        CASE(-EBADMSG, "on axis 0 that is no count",
                ITEM(TENSOR(F32("K\6"), "K\0", "N\x85", "K\1\x85"))),
        CASE(-EBADMSG, "on axis 0 that is no count",
                ITEM(TENSOR(F32("K\6"), "K\0", "J\xff\xff\xff\xff\x85", "K\1\x85"))),
        CASE(-EBADMSG, "'a': a tensor [2,3] is not in row-major order",
                ITEM(TENSOR(F32("K\6"), "K\0", "K\2K\3\x86", "K\1K\2\x86"))),
        CASE(-EBADMSG, "not in row-major order",
                ITEM(TENSOR(F32("K\6"), "K\0", "K\2K\2\x86", "K\3K\1\x86"))),
        CASE(-EBADMSG, "'a': a tensor takes 6 elements from element 1 on, the storage 'k' has 6",
                ITEM(TENSOR(F32("K\6"), "K\1", "K\6\x85", "K\1\x85"))),
        CASE(-EBADMSG, "takes 0 elements from element 7",
                ITEM(TENSOR(F32("K\6"), "K\7", "K\0\x85", "K\1\x85"))),
        CASE(-EBADMSG, "more elements than 64 bits count",
                ITEM(TENSOR(F32("K\6"), "K\0", "\x8a\7\1\1\1\1\1\1\1\x8a\7\1\1\1\1\1\1\1\x86",
                        "K\1K\1\x86"))),
};

static void anything_else_is_refused(void **state) {
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        Err err = {0};
        Pickle p;
        int r = parse_of(bad[i].bytes, bad[i].n, &p, &err);
        if (r != bad[i].code || !strstr(err_text(&err), bad[i].says))
            fail_msg("case %zu (%s): %d, %s", i, bad[i].says, r, err_text(&err));
    }
}

/* The head, then `what` repeated to n bytes. */
static int parse_many(
        const char *head, size_t n_head, const char *what, size_t n_what, size_t n, Err *err) {
    Pickle p;
    char *bytes = malloc(n);
    memcpy(bytes, head, n_head);
    for (size_t i = n_head; i < n; i++)
        bytes[i] = what[(i - n_head) % n_what];
    int r = pickle_parse(bytes, n, &p, err);
    free(bytes);
    return r;
}

static void limits_hold(void **state) {
    static const struct {
        const char *says, *what;
        size_t n_what, n;
    } cases[] = {
            {"it has 4194305 bytes, the limit is 4194304", "N", 1, PICKLE_MAX_BYTES + 1},
            {"more than 100000 values on its stack", "N", 1, 200000},
            {"more than 1000000 values", "\x85", 1, 2000000},
            {"nests deeper than 64", "(", 1, 200},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        Err err = {0};
        int r = parse_many(PROTO "}", 3, cases[i].what, cases[i].n_what, cases[i].n, &err);
        if (r != -EBADMSG || !strstr(err_text(&err), cases[i].says))
            fail_msg("case %zu: %d, %s", i, r, err_text(&err));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(tensors_have_name_place_and_shape),
            cmocka_unit_test(what_torch_writes_passes),
            cmocka_unit_test(anything_else_is_refused),
            cmocka_unit_test(limits_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
