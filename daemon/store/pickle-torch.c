#include "store/pickle-impl.h"

#include "base/size.h"
#include "base/str.h"

#include <errno.h>
#include <string.h>

static const Global globals[] = {
        {"collections", "OrderedDict", GLOBAL_ORDERED_DICT, N_DTYPES},
        {"torch._utils", "_rebuild_tensor_v2", GLOBAL_REBUILD, N_DTYPES},
        {"torch", "FloatStorage", GLOBAL_STORAGE_TYPE, DTYPE_F32},
        {"torch", "HalfStorage", GLOBAL_STORAGE_TYPE, DTYPE_F16},
        {"torch", "BFloat16Storage", GLOBAL_STORAGE_TYPE, DTYPE_BF16},
};

/* A line without its end, for comparing and for a refusal. */
static int take_line(Machine *m, const char **ret, int *ret_n) {
    enum { MAX_LINE = 200 };
    size_t left = (size_t)(m->end - m->at), n = 0;
    while (n < left && n <= MAX_LINE && m->at[n] != '\n')
        n++;
    if (n == left || n > MAX_LINE)
        return err_set(m->err, -EBADMSG, "it names a callable in a line that does not end");
    if (!str_is_utf8((const char *)m->at, n))
        return err_set(m->err, -EBADMSG, "it names a callable that is not UTF-8");
    *ret = (const char *)m->at;
    *ret_n = (int)n;
    m->at += n + 1;
    return 0;
}

static bool line_is(const char *line, int n, const char *text) {
    return strlen(text) == (size_t)n && memcmp(line, text, (size_t)n) == 0;
}

int pickle_global(Machine *m) {
    const char *module = NULL, *name = NULL;
    int n_module = 0, n_name = 0;
    Value *v = NULL;
    int r = take_line(m, &module, &n_module);
    if (r == 0)
        r = take_line(m, &name, &n_name);
    if (r < 0)
        return r;
    for (size_t i = 0; i < ARRAY_LEN(globals); i++) {
        if (!line_is(module, n_module, globals[i].module) ||
                !line_is(name, n_name, globals[i].name))
            continue;
        r = pickle_value_new(m, VALUE_GLOBAL, &v);
        if (r < 0)
            return r;
        v->global = &globals[i];
        return pickle_push(m, v);
    }
    return err_set(m->err, -EBADMSG,
            "it asks for '%.*s.%.*s'; only tensors of F32, F16 and BF16 are read, nothing is run",
            n_module, module, n_name, name);
}

static bool is_count(const Value *v) {
    return v->kind == VALUE_INT && v->number >= 0;
}

/* ('storage', type, key, device, elements) */
int pickle_storage(Machine *m) {
    const Value *id = NULL;
    Value *v = NULL;
    int r = pickle_pop_kind(m, VALUE_TUPLE, "what names a storage", &id);
    if (r < 0)
        return r;
    const Value *const *item = id->tuple.item;
    if (id->tuple.n != 5 || item[0]->kind != VALUE_TEXT || !str_eq(item[0]->text, "storage") ||
            item[1]->kind != VALUE_GLOBAL || item[1]->global->kind != GLOBAL_STORAGE_TYPE ||
            item[2]->kind != VALUE_TEXT || item[3]->kind != VALUE_TEXT || !is_count(item[4]))
        return err_set(m->err, -EBADMSG,
                "it names a storage by other things than type, key, device and elements");
    r = pickle_value_new(m, VALUE_STORAGE, &v);
    if (r < 0)
        return r;
    v->storage = (Storage){item[2]->text, item[1]->global->dtype, (uint64_t)item[4]->number};
    return pickle_push(m, v);
}

/* Row-major without gaps; the stride of an axis of one does not matter. */
static int read_extents(Machine *m, const Value *size, const Value *stride, PickleTensor *t) {
    uint64_t count = 1;
    bool fits = true, dense = true;
    if (size->kind != VALUE_TUPLE || stride->kind != VALUE_TUPLE ||
            size->tuple.n != stride->tuple.n)
        return err_set(m->err, -EBADMSG, "a tensor's extents and strides are no pair of tuples");
    if (size->tuple.n > VIEW_MAX_RANK)
        return err_set(m->err, -EBADMSG, "a tensor has %zu axes, at most %d are possible",
                size->tuple.n, VIEW_MAX_RANK);
    t->rank = (int)size->tuple.n;
    for (int i = t->rank - 1; i >= 0; i--) {
        const Value *d = size->tuple.item[i], *s = stride->tuple.item[i];
        if (!is_count(d) || !is_count(s))
            return err_set(m->err, -EBADMSG,
                    "a tensor has an extent or a stride on axis %d that is no count", i);
        t->dim[i] = d->number;
        dense = dense && (d->number == 1 || (uint64_t)s->number == count);
        fits = size_mul(count, (uint64_t)d->number, &count) && fits;
    }
    if (!fits)
        return err_set(m->err, -EBADMSG, "a tensor has more elements than 64 bits count");
    char shape[VIEW_TEXT_SIZE];
    if (!dense && count > 0)
        return err_set(m->err, -EBADMSG,
                "a tensor %s is not in row-major order (transposed, or part of another); nothing "
                "is copied, so it cannot be used",
                view_shape_text(t->rank, t->dim, shape));
    t->count = count;
    return 0;
}

/* (storage, first element, extents, strides, requires_grad, hooks), perhaps metadata */
static int rebuild_tensor(Machine *m, const Value *args) {
    const Value *const *item = args->tuple.item;
    size_t n = args->tuple.n;
    if (n < 6 || n > 7 || item[0]->kind != VALUE_STORAGE || !is_count(item[1]) ||
            item[4]->kind != VALUE_BOOL || item[5]->kind != VALUE_DICT || item[5]->dict.n > 0 ||
            (n == 7 && item[6]->kind != VALUE_NONE))
        return err_set(m->err, -EBADMSG,
                "it makes a tensor of other things than storage, offset, extents and strides");
    Value *v = NULL;
    int r = pickle_value_new(m, VALUE_TENSOR, &v);
    if (r < 0)
        return r;
    PickleTensor *t = v->tensor = arena_alloc(m->arena, sizeof(*t));
    if (!t)
        return pickle_no_memory(m);
    const Storage *s = &item[0]->storage;
    *t = (PickleTensor){.storage = s->key,
            .storage_count = s->count,
            .first = (uint64_t)item[1]->number,
            .dtype = s->dtype};
    r = read_extents(m, item[2], item[3], t);
    if (r < 0)
        return r;
    if (t->first > s->count || t->count > s->count - t->first)
        return err_set(m->err, -EBADMSG,
                "a tensor takes %ju elements from element %ju on, the storage '%s' has %ju",
                (uintmax_t)t->count, (uintmax_t)t->first, s->key, (uintmax_t)s->count);
    return pickle_push(m, v);
}

/* An error names the tensor: its key waits on the stack. */
static int named_tensor(Machine *m, const Value *args) {
    int r = rebuild_tensor(m, args);
    const Value *key = r < 0 && m->n_stack > 0 ? m->stack[m->n_stack - 1] : NULL;
    return key && key->kind == VALUE_TEXT ? err_prefix(m->err, r, "'%s'", key->text) : r;
}

int pickle_call(Machine *m) {
    const Value *args = NULL, *callable = NULL;
    int r = pickle_pop_kind(m, VALUE_TUPLE, "what a callable is given", &args);
    if (r == 0)
        r = pickle_pop_kind(m, VALUE_GLOBAL, "what is called", &callable);
    if (r < 0)
        return r;
    const Global *g = callable->global;
    if (g->kind == GLOBAL_REBUILD)
        return named_tensor(m, args);
    if (g->kind != GLOBAL_ORDERED_DICT || args->tuple.n > 0)
        return err_set(m->err, -EBADMSG, "it calls '%s.%s' with %zu values", g->module, g->name,
                args->tuple.n);
    Value *dict = NULL;
    r = pickle_value_new(m, VALUE_DICT, &dict);
    return r < 0 ? r : pickle_push(m, dict);
}

/* The dictionary that is left, as tensors with names. */
int pickle_list_tensors(Machine *m, Pickle *p) {
    const Value *top = m->result;
    if (top->kind != VALUE_DICT)
        return err_set(m->err, -EBADMSG, "it holds %s, wanted is a dictionary of tensors",
                pickle_kind_name(top->kind));
    p->tensor = arena_alloc(m->arena, (top->dict.n + 1) * sizeof(*p->tensor));
    if (!p->tensor)
        return pickle_no_memory(m);
    for (const Pair *pair = top->dict.first; pair; pair = pair->next) {
        if (pair->key->kind != VALUE_TEXT)
            return err_set(m->err, -EBADMSG, "it has %s for a tensor's name",
                    pickle_kind_name(pair->key->kind));
        if (pair->value->kind != VALUE_TENSOR)
            return err_set(m->err, -EBADMSG, "its '%s' is %s, wanted are tensors only",
                    pair->key->text, pickle_kind_name(pair->value->kind));
        PickleTensor *t = &p->tensor[p->n_tensors++];
        *t = *pair->value->tensor;
        t->name = pair->key->text;
    }
    return 0;
}
