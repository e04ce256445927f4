/* model-path - which manifest or directory the configured model is opened from. */
#ifndef PREHEAT_CONFIG_MODEL_PATH_H
#define PREHEAT_CONFIG_MODEL_PATH_H

#include "config/config.h"

/* config_manifest_path - where `preheatctl model add` keeps a model's manifest:
 * STATE_DIR/models/NAME.manifest. NULL when out of memory; the caller frees it. */
char *config_manifest_path(const Config *c, const char *name);

/* config_model_path - the manifest of [model] name where there is one, else [model] path. Daemon
 * and warm-up must agree on it: a segment belongs to one manifest. NULL when out of memory; the
 * caller frees it. */
char *config_model_path(const Config *c);

#endif
