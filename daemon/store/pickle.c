#include "store/pickle-impl.h"

#include "base/size.h"
#include "base/str.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const kind_names[] = {"None", "a boolean", "a number", "a text", "a tuple",
        "a dictionary", "a callable", "a storage", "a tensor"};

const char *pickle_kind_name(ValueKind kind) {
    return kind_names[kind];
}

int pickle_no_memory(Machine *m) {
    return err_set(m->err, -ENOMEM, "no memory for a pickle of %zu bytes", m->n_bytes);
}

int pickle_value_new(Machine *m, ValueKind kind, Value **ret) {
    if (++m->n_values > PICKLE_MAX_VALUES)
        return err_set(m->err, -EBADMSG, "it makes more than %d values", PICKLE_MAX_VALUES);
    Value *v = arena_alloc(m->arena, sizeof(*v));
    if (!v)
        return pickle_no_memory(m);
    v->kind = kind;
    *ret = v;
    return 0;
}

int pickle_push(Machine *m, const Value *v) {
    if (m->n_stack == PICKLE_MAX_STACK)
        return err_set(
                m->err, -EBADMSG, "it has more than %d values on its stack", PICKLE_MAX_STACK);
    if (m->n_stack == m->stack_room) {
        size_t room = m->stack_room ? 2 * m->stack_room : 256;
        const Value **stack = reallocarray(m->stack, room, sizeof(*stack));
        if (!stack)
            return pickle_no_memory(m);
        m->stack = stack;
        m->stack_room = room;
    }
    m->stack[m->n_stack++] = v;
    return 0;
}

/* Values below the last mark belong to whoever set it. */
static int pop(Machine *m, const Value **ret) {
    size_t floor = m->n_marks ? m->mark[m->n_marks - 1] : 0;
    if (m->n_stack <= floor)
        return err_set(m->err, -EBADMSG, "it takes a value from an empty stack");
    *ret = m->stack[--m->n_stack];
    return 0;
}

int pickle_pop_kind(Machine *m, ValueKind kind, const char *what, const Value **ret) {
    const Value *v = NULL;
    int r = pop(m, &v);
    if (r < 0)
        return r;
    if (v->kind != kind)
        return err_set(m->err, -EBADMSG, "%s is %s, it must be %s", what, pickle_kind_name(v->kind),
                pickle_kind_name(kind));
    *ret = v;
    return 0;
}

static int push_new(Machine *m, ValueKind kind) {
    Value *v = NULL;
    int r = pickle_value_new(m, kind, &v);
    return r < 0 ? r : pickle_push(m, v);
}

static int push_number(Machine *m, ValueKind kind, int64_t number) {
    Value *v = NULL;
    int r = pickle_value_new(m, kind, &v);
    if (r < 0)
        return r;
    v->number = number;
    return pickle_push(m, v);
}

/* n bytes of the pickle. */
static int take(Machine *m, size_t n, const uint8_t **ret) {
    if ((size_t)(m->end - m->at) < n)
        return err_set(m->err, -EBADMSG, "it is cut at byte %zu", m->n_bytes);
    *ret = m->at;
    m->at += n;
    return 0;
}

/* An unsigned little-endian number of n bytes, n <= 8. */
static int take_number(Machine *m, size_t n, uint64_t *ret) {
    const uint8_t *p = NULL;
    int r = take(m, n, &p);
    if (r < 0)
        return r;
    uint64_t v = 0;
    while (n-- > 0)
        v = v << 8 | p[n];
    *ret = v;
    return 0;
}

static int op_proto(Machine *m) {
    uint64_t version = 0;
    int r = take_number(m, 1, &version);
    if (r == 0 && version != 2)
        return err_set(m->err, -EBADMSG, "it has protocol %ju, torch writes 2", (uintmax_t)version);
    return r;
}

static int op_none(Machine *m) {
    return push_new(m, VALUE_NONE);
}

static int op_true(Machine *m) {
    return push_number(m, VALUE_BOOL, 1);
}

static int op_false(Machine *m) {
    return push_number(m, VALUE_BOOL, 0);
}

static int op_binint(Machine *m) {
    uint64_t v = 0;
    int r = take_number(m, 4, &v);
    return r < 0 ? r : push_number(m, VALUE_INT, (int32_t)(uint32_t)v);
}

static int op_binint1(Machine *m) {
    uint64_t v = 0;
    int r = take_number(m, 1, &v);
    return r < 0 ? r : push_number(m, VALUE_INT, (int64_t)v);
}

static int op_binint2(Machine *m) {
    uint64_t v = 0;
    int r = take_number(m, 2, &v);
    return r < 0 ? r : push_number(m, VALUE_INT, (int64_t)v);
}

/* Two's complement of as many bytes as the value needs. */
static int op_long1(Machine *m) {
    uint64_t n = 0, v = 0;
    int r = take_number(m, 1, &n);
    if (r == 0 && n > 8)
        return err_set(m->err, -EBADMSG, "it has a number of %ju bytes, at most 8 are possible",
                (uintmax_t)n);
    if (r == 0)
        r = take_number(m, (size_t)n, &v);
    if (r < 0)
        return r;
    if (n > 0 && n < 8 && v >> (8 * n - 1))
        v |= UINT64_MAX << (8 * n);
    return push_number(m, VALUE_INT, (int64_t)v);
}

static int op_binunicode(Machine *m) {
    uint64_t n = 0;
    const uint8_t *text = NULL;
    Value *v = NULL;
    int r = take_number(m, 4, &n);
    if (r == 0)
        r = take(m, (size_t)n, &text);
    if (r < 0)
        return r;
    if (!str_is_utf8((const char *)text, (size_t)n) || memchr(text, '\0', (size_t)n))
        return err_set(m->err, -EBADMSG, "it has a text that is not UTF-8, or has a NUL");
    r = pickle_value_new(m, VALUE_TEXT, &v);
    if (r < 0)
        return r;
    v->text = arena_strndup(m->arena, (const char *)text, (size_t)n);
    return v->text ? pickle_push(m, v) : pickle_no_memory(m);
}

static int op_mark(Machine *m) {
    if (m->n_marks == PICKLE_MAX_MARKS)
        return err_set(m->err, -EBADMSG, "it nests deeper than %d", PICKLE_MAX_MARKS);
    m->mark[m->n_marks++] = m->n_stack;
    return 0;
}

/* The position behind the last mark, which goes. */
static int pop_mark(Machine *m, size_t *ret) {
    if (m->n_marks == 0)
        return err_set(m->err, -EBADMSG, "it ends a list that it did not begin");
    *ret = m->mark[--m->n_marks];
    return 0;
}

/* From the stack's position `first` on. */
static int make_tuple(Machine *m, size_t first) {
    Value *v = NULL;
    int r = pickle_value_new(m, VALUE_TUPLE, &v);
    if (r < 0)
        return r;
    v->tuple.n = m->n_stack - first;
    v->tuple.item = arena_alloc(m->arena, (v->tuple.n + 1) * sizeof(*v->tuple.item));
    if (!v->tuple.item)
        return pickle_no_memory(m);
    for (size_t i = 0; i < v->tuple.n; i++)
        v->tuple.item[i] = m->stack[first + i];
    m->n_stack = first;
    return pickle_push(m, v);
}

static int op_tuple(Machine *m) {
    size_t first = 0;
    int r = pop_mark(m, &first);
    return r < 0 ? r : make_tuple(m, first);
}

static int tuple_of(Machine *m, size_t n) {
    size_t floor = m->n_marks ? m->mark[m->n_marks - 1] : 0;
    if (m->n_stack - floor < n)
        return err_set(m->err, -EBADMSG, "it takes a value from an empty stack");
    return make_tuple(m, m->n_stack - n);
}

static int op_empty_tuple(Machine *m) {
    return tuple_of(m, 0);
}

static int op_tuple1(Machine *m) {
    return tuple_of(m, 1);
}

static int op_tuple2(Machine *m) {
    return tuple_of(m, 2);
}

static int op_tuple3(Machine *m) {
    return tuple_of(m, 3);
}

static int op_empty_dict(Machine *m) {
    return push_new(m, VALUE_DICT);
}

/* The dictionary lies below the stack's position `first`, keys and values from there on. */
static int set_items(Machine *m, size_t first) {
    size_t n = m->n_stack - first;
    size_t floor = m->n_marks ? m->mark[m->n_marks - 1] : 0;
    if (first <= floor)
        return err_set(m->err, -EBADMSG, "it sets items of nothing");
    Value *dict = (Value *)m->stack[first - 1];
    if (dict->kind != VALUE_DICT)
        return err_set(m->err, -EBADMSG, "it sets items of %s", pickle_kind_name(dict->kind));
    if (n % 2 != 0)
        return err_set(m->err, -EBADMSG, "it sets an item that has a key and no value");
    for (size_t i = first; i < m->n_stack; i += 2) {
        Pair *p = arena_alloc(m->arena, sizeof(*p));
        if (!p)
            return pickle_no_memory(m);
        *p = (Pair){m->stack[i], m->stack[i + 1], NULL};
        if (dict->dict.last)
            dict->dict.last->next = p;
        else
            dict->dict.first = p;
        dict->dict.last = p;
        dict->dict.n++;
    }
    m->n_stack = first;
    return 0;
}

static int op_setitems(Machine *m) {
    size_t first = 0;
    int r = pop_mark(m, &first);
    return r < 0 ? r : set_items(m, first);
}

static int op_setitem(Machine *m) {
    size_t floor = m->n_marks ? m->mark[m->n_marks - 1] : 0;
    if (m->n_stack - floor < 3)
        return err_set(m->err, -EBADMSG, "it takes a value from an empty stack");
    return set_items(m, m->n_stack - 2);
}

/* A module's state dict carries versions of its layers as an attribute; nothing here needs them. */
static int op_build(Machine *m) {
    const Value *state = NULL, *object = NULL;
    int r = pickle_pop_kind(m, VALUE_DICT, "what BUILD is given", &state);
    if (r == 0)
        r = pickle_pop_kind(m, VALUE_DICT, "what BUILD changes", &object);
    if (r < 0)
        return r;
    for (const Pair *p = state->dict.first; p; p = p->next)
        if (p->key->kind != VALUE_TEXT || !str_eq(p->key->text, "_metadata"))
            return err_set(m->err, -EBADMSG, "it sets the attribute '%s', only '_metadata' may be",
                    p->key->kind == VALUE_TEXT ? p->key->text : pickle_kind_name(p->key->kind));
    return pickle_push(m, object);
}

static int put(Machine *m, uint64_t index) {
    size_t floor = m->n_marks ? m->mark[m->n_marks - 1] : 0;
    if (m->n_stack <= floor)
        return err_set(m->err, -EBADMSG, "it remembers a value of an empty stack");
    if (index >= m->n_bytes) /* the pickler counts up, and each takes two bytes or more */
        return err_set(m->err, -EBADMSG, "it remembers a value as number %ju, it has %zu bytes",
                (uintmax_t)index, m->n_bytes);
    if (index >= m->memo_room) {
        size_t room = MAX((size_t)index + 1, 2 * m->memo_room);
        const Value **memo = reallocarray(m->memo, room, sizeof(*memo));
        if (!memo)
            return pickle_no_memory(m);
        memset(memo + m->memo_room, 0, (room - m->memo_room) * sizeof(*memo));
        m->memo = memo;
        m->memo_room = room;
    }
    m->memo[index] = m->stack[m->n_stack - 1];
    return 0;
}

static int op_binput(Machine *m) {
    uint64_t index = 0;
    int r = take_number(m, 1, &index);
    return r < 0 ? r : put(m, index);
}

static int op_long_binput(Machine *m) {
    uint64_t index = 0;
    int r = take_number(m, 4, &index);
    return r < 0 ? r : put(m, index);
}

static int get(Machine *m, uint64_t index) {
    if (index >= m->memo_room || !m->memo[index])
        return err_set(m->err, -EBADMSG, "it recalls the value number %ju, which it never had",
                (uintmax_t)index);
    return pickle_push(m, m->memo[index]);
}

static int op_binget(Machine *m) {
    uint64_t index = 0;
    int r = take_number(m, 1, &index);
    return r < 0 ? r : get(m, index);
}

static int op_long_binget(Machine *m) {
    uint64_t index = 0;
    int r = take_number(m, 4, &index);
    return r < 0 ? r : get(m, index);
}

static int op_stop(Machine *m) {
    int r = pop(m, &m->result);
    if (r == 0 && (m->n_stack > 0 || m->at != m->end))
        return err_set(m->err, -EBADMSG, "it ends with %zu values and %zu bytes left over",
                m->n_stack, (size_t)(m->end - m->at));
    return r;
}

typedef int Op(Machine *m);

/* The opcodes of all protocols; those without a function are refused. */
/* clang-format off */
static const struct {
    uint8_t code;
    const char *name;
    Op *run;
} ops[] = {
    {'(', "MARK", op_mark},              {'.', "STOP", op_stop},               {'0', "POP", NULL},
    {'1', "POP_MARK", NULL},             {'2', "DUP", NULL},                   {'F', "FLOAT", NULL},
    {'I', "INT", NULL},                  {'J', "BININT", op_binint},           {'K', "BININT1", op_binint1},
    {'L', "LONG", NULL},                 {'M', "BININT2", op_binint2},         {'N', "NONE", op_none},
    {'P', "PERSID", NULL},               {'Q', "BINPERSID", pickle_storage},     {'R', "REDUCE", pickle_call},
    {'S', "STRING", NULL},               {'T', "BINSTRING", NULL},             {'U', "SHORT_BINSTRING", NULL},
    {'V', "UNICODE", NULL},              {'X', "BINUNICODE", op_binunicode},   {'a', "APPEND", NULL},
    {'b', "BUILD", op_build},            {'c', "GLOBAL", pickle_global},           {'d', "DICT", NULL},
    {'}', "EMPTY_DICT", op_empty_dict},  {'e', "APPENDS", NULL},               {'g', "GET", NULL},
    {'h', "BINGET", op_binget},          {'i', "INST", NULL},                  {'j', "LONG_BINGET", op_long_binget},
    {'l', "LIST", NULL},                 {']', "EMPTY_LIST", NULL},            {'o', "OBJ", NULL},
    {'p', "PUT", NULL},                  {'q', "BINPUT", op_binput},           {'r', "LONG_BINPUT", op_long_binput},
    {'s', "SETITEM", op_setitem},        {'t', "TUPLE", op_tuple},             {')', "EMPTY_TUPLE", op_empty_tuple},
    {'u', "SETITEMS", op_setitems},      {'G', "BINFLOAT", NULL},              {'B', "BINBYTES", NULL},
    {'C', "SHORT_BINBYTES", NULL},       {0x80, "PROTO", op_proto},            {0x81, "NEWOBJ", NULL},
    {0x82, "EXT1", NULL},                {0x83, "EXT2", NULL},                 {0x84, "EXT4", NULL},
    {0x85, "TUPLE1", op_tuple1},         {0x86, "TUPLE2", op_tuple2},          {0x87, "TUPLE3", op_tuple3},
    {0x88, "NEWTRUE", op_true},          {0x89, "NEWFALSE", op_false},         {0x8a, "LONG1", op_long1},
    {0x8b, "LONG4", NULL},               {0x8c, "SHORT_BINUNICODE", NULL},     {0x8d, "BINUNICODE8", NULL},
    {0x8e, "BINBYTES8", NULL},           {0x8f, "EMPTY_SET", NULL},            {0x90, "ADDITEMS", NULL},
    {0x91, "FROZENSET", NULL},           {0x92, "NEWOBJ_EX", NULL},            {0x93, "STACK_GLOBAL", NULL},
    {0x94, "MEMOIZE", NULL},             {0x95, "FRAME", NULL},                {0x96, "BYTEARRAY8", NULL},
    {0x97, "NEXT_BUFFER", NULL},         {0x98, "READONLY_BUFFER", NULL},
};
/* clang-format on */

static int step(Machine *m) {
    size_t place = m->n_bytes - (size_t)(m->end - m->at);
    uint64_t code = 0;
    int r = take_number(m, 1, &code);
    if (r < 0)
        return r;
    for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
        if (ops[i].code != code)
            continue;
        if (!ops[i].run)
            return err_set(m->err, -EBADMSG,
                    "it has the opcode %s at byte %zu, which a dictionary of tensors does not need",
                    ops[i].name, place);
        return ops[i].run(m);
    }
    return err_set(m->err, -EBADMSG, "it has the byte 0x%02x at byte %zu, which is no opcode",
            (unsigned)code, place);
}

int pickle_parse(const void *data, size_t n, Pickle *ret, Err *err) {
    if (n > PICKLE_MAX_BYTES)
        return err_set(err, -EBADMSG, "it has %zu bytes, the limit is %d", n, PICKLE_MAX_BYTES);
    Pickle p = {0};
    Machine m = {.at = data,
            .end = (const uint8_t *)data + n,
            .n_bytes = n,
            .arena = &p.arena,
            .err = err};
    int r = 0;
    while (r == 0 && !m.result)
        r = step(&m);
    if (r == 0)
        r = pickle_list_tensors(&m, &p);
    free(m.stack);
    free(m.memo);
    if (r < 0) {
        pickle_done(&p);
        return r;
    }
    *ret = p;
    return 0;
}

void pickle_done(Pickle *p) {
    arena_done(&p->arena);
    *p = (Pickle){0};
}
