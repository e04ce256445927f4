#include "model/vae-impl.h"

#include <math.h>

View vae_temp(VaeRun *r, VaeEnd e, int64_t t, int64_t h, int64_t w, int64_t c) {
    DType act = backend_info(stream_backend(r->s))->activation;
    return e == VAE_LOW ? stream_temp(r->s, act, t, h, w, c)
                        : stream_temp_top(r->s, act, t, h, w, c);
}

size_t vae_mark(const VaeRun *r, VaeEnd e) {
    return e == VAE_LOW ? stream_mark(r->s) : stream_mark_top(r->s);
}

void vae_release(VaeRun *r, VaeEnd e, size_t mark) {
    if (e == VAE_LOW)
        stream_release(r->s, mark);
    else
        stream_release_top(r->s, mark);
}

View vae_matrix(View x) {
    return view_reshape(x, x.dim[0] * x.dim[1] * x.dim[2], x.dim[3]);
}

void vae_slot_init(VaeSlot *slot, Stream *s, int n, int64_t h, int64_t w, int64_t c) {
    DType act = backend_info(stream_backend(s))->activation;
    *slot = (VaeSlot){.n = 0};
    if (n > 0)
        slot->frames = stream_temp(s, act, n, h, w, c);
}

int vae_slots_res(VaeSlot slot[], Stream *s, const VaeRes *b, int n, int64_t h, int64_t w) {
    vae_slot_init(&slot[0], s, n, h, w, b->c_in);
    vae_slot_init(&slot[1], s, n, h, w, b->c_out);
    return 2;
}

VaeSlot *vae_slot_next(VaeRun *r) {
    assert(r->next < r->n_slots);
    return &r->slot[r->next++];
}

View vae_slot_view(const VaeSlot *slot) {
    if (slot->n == 0)
        return (View){0};
    return view_rows(slot->frames, slot->frames.dim[0] - slot->n, slot->n);
}

void vae_slot_keep(VaeRun *r, VaeSlot *slot, View x) {
    if (r->last)
        return;
    int64_t room = slot->frames.dim[0], t = x.dim[0], n = MIN(t, room), kept = room - n;
    if (kept > 0 && slot->n > 0) /* room is 2 and one frame comes: the newest moves up */
        op_copy(r->s, view_rows(slot->frames, 0, kept), view_rows(slot->frames, n, kept));
    op_copy(r->s, view_rows(slot->frames, kept, n), view_rows(x, t - n, n));
    slot->n = (int)MIN(room, slot->n + n);
}

void vae_conv(VaeRun *r, View y, View x, const VaeConv *c, View add) {
    VaeSlot *slot = vae_slot_next(r);
    op_conv(r->s, &(ConvArgs){
                          .y = y,
                          .prev = vae_slot_view(slot),
                          .x = x,
                          .w = c->w,
                          .bias = c->b,
                          .add = add,
                          .zero_frames = 2 - slot->n,
                          .stride_t = 1,
                          .stride_s = 1,
                          .pad_lo = 1,
                          .pad_hi = 1,
                  });
    vae_slot_keep(r, slot, x);
}

void vae_res(VaeRun *r, const VaeRes *b, View y, View x, VaeEnd scratch, bool spend) {
    bool same = view_is_null(b->shortcut.w);
    size_t mark = vae_mark(r, scratch);
    if (!same)
        op_linear(r->s, vae_matrix(y), vae_matrix(x), b->shortcut.w, b->shortcut.b, ACT_NONE);

    View n = spend && !same ? x : vae_temp(r, scratch, x.dim[0], x.dim[1], x.dim[2], x.dim[3]);
    op_vae_norm(r->s, n, x, b->norm1, ACT_SILU);
    View h = vae_temp(r, scratch, y.dim[0], y.dim[1], y.dim[2], y.dim[3]);
    vae_conv(r, h, n, &b->conv1, (View){0});
    op_vae_norm(r->s, h, h, b->norm2, ACT_SILU);
    vae_conv(r, y, h, &b->conv2, same ? x : y);
    vae_release(r, scratch, mark);
}

/* One head over the positions of one frame, no position encoding. */
static void attend(VaeRun *r, const VaeAttention *a, View x, VaeEnd scratch) {
    int64_t t = x.dim[0], h = x.dim[1], w = x.dim[2], c = a->c;
    size_t mark = vae_mark(r, scratch);
    View n = vae_temp(r, scratch, t, h, w, c), o = vae_temp(r, scratch, t, h, w, c);
    View qkv = vae_matrix(vae_temp(r, scratch, t, h, w, 3 * c));
    op_vae_norm(r->s, n, x, a->norm, ACT_NONE);
    op_linear(r->s, qkv, vae_matrix(n), a->qkv.w, a->qkv.b, ACT_NONE);
    for (int64_t i = 0; i < t; i++) {
        View frame = view_rows(qkv, i * h * w, h * w);
        op_attention(r->s, &(AttentionArgs){
                                   .o = view_rows(vae_matrix(o), i * h * w, h * w),
                                   .q = view_cols(frame, 0, c),
                                   .k = view_cols(frame, c, c),
                                   .v = view_cols(frame, 2 * c, c),
                                   .n_heads = 1,
                                   .scale = 1 / sqrtf((float)c),
                           });
    }
    op_linear(r->s, vae_matrix(n), vae_matrix(o), a->proj.w, a->proj.b, ACT_NONE);
    op_add(r->s, vae_matrix(x), vae_matrix(n));
    vae_release(r, scratch, mark);
}

void vae_middle(VaeRun *r, const VaeHalf *half, View x, VaeEnd scratch) {
    vae_res(r, &half->mid[0], x, x, scratch, false);
    attend(r, &half->attention, x, scratch);
    vae_res(r, &half->mid[1], x, x, scratch, false);
}

void vae_statistics(
        Stream *s, const float scale[], const float shift[], int64_t c, View *ret_a, View *ret_b) {
    *ret_a = stream_temp(s, DTYPE_F32, c);
    *ret_b = stream_temp(s, DTYPE_F32, c);
    if (scale) {
        stream_upload(s, *ret_a, view_of((void *)scale, DTYPE_F32, c));
        stream_upload(s, *ret_b, view_of((void *)shift, DTYPE_F32, c));
    } else {
        op_fill(s, *ret_a, 1);
        op_fill(s, *ret_b, 0);
    }
}
