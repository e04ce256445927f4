/* ask - what systemd says when it is asked. Everything is false where there is none. */
#ifndef PREHEAT_SERVICE_ASK_H
#define PREHEAT_SERVICE_ASK_H

#include <stdbool.h>

/* ask_is_booting - what is started at boot has not all been started. */
bool ask_is_booting(void);

/* ask_is_restarting - the unit is being stopped only to be started again. */
bool ask_is_restarting(const char *unit);

#endif
