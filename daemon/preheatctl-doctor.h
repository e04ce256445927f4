/* preheatctl-doctor - the check-up of this machine and of what is installed on it. */
#ifndef PREHEAT_PREHEATCTL_DOCTOR_H
#define PREHEAT_PREHEATCTL_DOCTOR_H

#include "config/config.h"
#include "ctl/client.h"
#include "ctl/options.h"

typedef struct DoctorOptions {
    const char *preheatd;
    bool json;
} DoctorOptions;

extern const OptionTable doctor_table;

/* doctor_run - checks all there is to check; nothing is changed, a sleeping daemon sleeps on.
 *
 *   config_path  as given on the command line, or NULL
 *   columns      0: lines are not cut
 *
 * Returns 0, also with notes; -ENOEXEC when there are problems; -ENOMEM. */
int doctor_run(const Config *config, const char *config_path, Client *c, const DoctorOptions *o,
        int columns, FILE *out, Err *err);

#endif
