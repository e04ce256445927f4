/* residency - which weights stay on the device, from all of them to one layer at a time.
 *
 * Worker thread, but for residency_peak(). Results do not depend on the residency. The
 * tiles (model/vae.h) that a run may need in it change no formula either; a device that chooses the
 * order of a product's sums by its size may round their frames otherwise. */
#ifndef PREHEAT_PIPELINE_RESIDENCY_H
#define PREHEAT_PIPELINE_RESIDENCY_H

#include "model/model.h"
#include "pipeline/pinner.h"

typedef enum Residency {
    RESIDENCY_ALL,
    RESIDENCY_TEXT_STREAMED, /* the text encoder comes layer by layer; DiT and VAE stay */
    RESIDENCY_BY_PHASE,      /* and the DiT makes room for the VAE's decoder, and back */
    RESIDENCY_STREAMED,      /* and the DiT comes layer by layer, too */
    N_RESIDENCIES,
} Residency;

/* residency_name - in words, "all weights resident", ...; static text. */
const char *residency_name(Residency r);

/* Device memory beside the weights, in the two phases of a run. */
typedef struct Workspaces {
    size_t denoise; /* text, image and all steps */
    size_t decode;
} Workspaces;

/* residency_peak - device memory that weights and workspaces take at once, at most. Any thread. */
uint64_t residency_peak(const Model *m, Backend *b, Residency r, const Workspaces *w);

/* residency_parkable - the groups whose device memory is filled once and never given back, in order
 * of use; none where weights come and go. Returns how many, RESIDENCY_MAX_PARKABLE at most. Any
 * thread. */
enum { RESIDENCY_MAX_PARKABLE = 250 };
size_t residency_parkable(
        const Model *m, Backend *b, Residency r, WeightGroup *ret[static RESIDENCY_MAX_PARKABLE]);

/* residency_load - brings in what the phase of denoising needs, and what stays; in order of use.
 *
 *   on_group  after each group; negative stops; may be NULL */
typedef int ResidencyLoaded(void *context, size_t n_loaded, size_t n_groups);
typedef struct ResidencyLoad {
    uint64_t timeout_usec; /* for the bytes of one group */
    Pinner *pinner;        /* covers what is copied, before it is; NULL: nothing is page-locked */
    Memory **parked;       /* of residency_parkable()'s groups, from an earlier process: adopted
                            * instead of loaded, taken and set to NULL one by one; or NULL */
    bool may_retry;        /* pipeline_load() may be called again when memory is short */
    ResidencyLoaded *on_group;
    void *context;
} ResidencyLoad;
int residency_load(Model *m, Stream *s, Residency r, const ResidencyLoad *how, Err *err);

/* residency_enter_decode - makes room for the decoder where weights do not all stay, and brings it
 * in. Nothing may be under way on the device but what s was given. */
int residency_enter_decode(Model *m, Stream *s, Residency r, uint64_t timeout_usec, Err *err);

#endif
