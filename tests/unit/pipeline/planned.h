/* planned - a request on the tiny model, ready to be planned apart from any pipeline. */
#ifndef PREHEAT_UNIT_PIPELINE_PLANNED_H
#define PREHEAT_UNIT_PIPELINE_PLANNED_H

#include "pipeline/bench.h"

#include "pipeline/run-impl.h"

typedef struct Planned {
    Bench bench;
    Model *model;
    Tokenizer *tokenizer;
    Run run;
} Planned;

static inline void planned_open(Planned *p, const Request *r) {
    const char *spiece;
    size_t n;
    assert_int_equal(bench_open(&p->bench, 0, NULL), 0);
    const Checkpoint *c = p->bench.checkpoint;
    assert_int_equal(model_new(p->bench.checkpoint, &p->model, NULL), 0);
    assert_int_equal(checkpoint_file(c, "tokenizer/spiece.model", &spiece, &n, NULL), 0);
    assert_int_equal(tokenizer_new(spiece, n, p->model->dims.t5.vocab, TOKENIZER_SENTENCEPIECE,
                             &p->tokenizer, NULL),
            0);
    assert_int_equal(run_init(&p->run, p->model, p->tokenizer, r, NULL), 0);
}

static inline void planned_close(Planned *p) {
    run_done(&p->run);
    tokenizer_free(p->tokenizer);
    model_free(p->model);
    bench_close(&p->bench);
}

#endif
