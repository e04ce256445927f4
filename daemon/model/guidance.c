#include "model/guidance.h"

#include "backend/ops.h"

/* Frame 0 of latents: [c, 1, h, w], strided. */
static View first_frame(View x) {
    x.dim[1] = 1;
    return x;
}

void guidance_finish(Stream *s, const Guidance *g, View x) {
    if (!view_is_null(g->first))
        op_copy(s, first_frame(x), g->first);
}

void guidance_velocity(
        Stream *s, const Guidance *g, View v, View x, double timestep, const Observer *observer) {
    bool guided = g->scale > 1, given = !view_is_null(g->first);
    size_t mark = stream_mark(s);
    View input = x, negative = {0};
    if (given) {
        input = stream_temp_of(s, DTYPE_F32, x.rank, x.dim);
        op_copy(s, input, x);
        guidance_finish(s, g, input);
    }
    if (guided)
        negative = stream_temp_of(s, DTYPE_F32, x.rank, x.dim);

    int64_t n = g->rope.dim[0], n_first = given ? n / x.dim[1] : 0;
    const DitRun runs[] = {{n_first, 0}, {n - n_first, timestep}};
    int64_t skip = given ? 0 : 1, n_runs = n > n_first ? 2 : 1;
    dit_forward(s, g->dit,
            &(DitForward){
                    .x = input,
                    .rope = g->rope,
                    .runs = runs + skip,
                    .n_runs = n_runs - skip,
                    .n_contexts = guided ? 2 : 1,
                    .context = {g->prompt, g->negative},
                    .y = {v, negative},
                    .observer = observer,
            });
    if (guided)
        op_lincomb(s, v, 2, (const View[]){negative, v},
                (const float[]){(float)(1 - g->scale), (float)g->scale});
    stream_release(s, mark);
}
