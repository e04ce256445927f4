#include "request/progress.h"

#include "base/macro.h"

static const char *const phase_names[] = {
        [PHASE_QUEUED] = "queued",
        [PHASE_LOADING] = "loading",
        [PHASE_ENCODING_TEXT] = "encoding_text",
        [PHASE_ENCODING_IMAGE] = "encoding_image",
        [PHASE_DENOISING] = "denoising",
        [PHASE_DECODING] = "decoding",
        [PHASE_ENCODING_VIDEO] = "encoding_video",
        [PHASE_DONE] = "done",
};
static_assert(ARRAY_LEN(phase_names) == N_PHASES, "every phase has a name");

const char *phase_name(Phase p) {
    assert((unsigned)p < N_PHASES);
    return phase_names[p];
}
