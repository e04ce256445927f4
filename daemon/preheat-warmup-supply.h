/* supply - gets a model's manifest and files from [model] source. */
#ifndef PREHEAT_WARMUP_SUPPLY_H
#define PREHEAT_WARMUP_SUPPLY_H

#include "config/config.h"
#include "store/segment.h"
#include "warmup/download.h"

/* All borrowed. */
typedef struct Supply {
    const Config *config;
    const char *credentials; /* $CREDENTIALS_DIRECTORY; NULL: none */
    const atomic_bool *stop;
    DownloadProgressFunc *progress;
    void *context;
} Supply;

typedef enum SupplyNews {
    SUPPLY_KEPT, /* ask the source only if nothing usable was fetched before */
    SUPPLY_LOOK, /* ask for a new manifest, unless the pinned one is here; if that fails, a kept one
                    will do */
} SupplyNews;

int supply_manifest(const Supply *s, SupplyNews news, Manifest **ret, Err *err);

/* supply_files - in cache mode, what is missing of them; asks nobody when nothing is. */
int supply_files(const Supply *s, const Manifest *m, Err *err);

/* supply_remote - to read chunks from, in direct mode. */
int supply_remote(const Supply *s, Remote **ret, Err *err);

/* supply_distrust - after a fill from cached files that failed: those with a bad chunk are to be
 * looked at by the next supply_files(). */
void supply_distrust(const Manifest *m, const Segment *s);

#endif
