/* preheatd-ended - what is said when another preheatd has ended: the unit's ExecStopPost=. */
#ifndef PREHEAT_PREHEATD_ENDED_H
#define PREHEAT_PREHEATD_ENDED_H

/* ended_report - nothing after a success, else how it ended and what to do, to the journal and to
 * systemctl status, where it stays when systemd has given up. From $SERVICE_RESULT, $EXIT_CODE and
 * $EXIT_STATUS, see systemd.exec(5). */
void ended_report(void);

#endif
