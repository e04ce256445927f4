/* ask - what systemd says when it is asked; where there is none, false and nothing. */
#ifndef PREHEAT_SERVICE_ASK_H
#define PREHEAT_SERVICE_ASK_H

#include <stdbool.h>

/* ask_is_booting - what is started at boot has not all been started. */
bool ask_is_booting(void);

typedef enum AskJob { ASK_NOTHING, ASK_STOP, ASK_START } AskJob;

/* ask_job - what somebody has asked of the unit that is not done yet; a restart is a start, too. */
AskJob ask_job(const char *unit);

#endif
