#include "service/ask.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <systemd/sd-bus.h>

#define SYSTEMD "org.freedesktop.systemd1"

bool ask_is_booting(void) {
    _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
    _cleanup_free_ char *state = NULL;
    if (sd_bus_open_system(&bus) < 0 ||
            sd_bus_get_property_string(bus, SYSTEMD, "/org/freedesktop/systemd1",
                    SYSTEMD ".Manager", "SystemState", NULL, &state) < 0)
        return false;
    return str_eq(state, "initializing") || str_eq(state, "starting");
}

/* The object path of the job that a unit waits for, on the heap; NULL: none. */
static char *job_of(sd_bus *bus, const char *unit) {
    _cleanup_free_ char *path = NULL;
    _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
    uint32_t id = 0;
    const char *job = NULL;
    if (sd_bus_path_encode("/org/freedesktop/systemd1/unit", unit, &path) < 0 ||
            sd_bus_get_property(bus, SYSTEMD, path, SYSTEMD ".Unit", "Job", NULL, &reply, "(uo)") <
                    0 ||
            sd_bus_message_read(reply, "(uo)", &id, &job) < 0 || id == 0)
        return NULL;
    return strdup(job);
}

AskJob ask_job(const char *unit) {
    _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
    _cleanup_free_ char *job = NULL, *type = NULL;
    if (sd_bus_open_system(&bus) < 0)
        return ASK_NOTHING;
    job = job_of(bus, unit);
    if (!job || sd_bus_get_property_string(
                        bus, SYSTEMD, job, SYSTEMD ".Job", "JobType", NULL, &type) < 0)
        return ASK_NOTHING;
    if (str_eq(type, "stop"))
        return ASK_STOP;
    return str_eq(type, "start") || str_eq(type, "restart") ? ASK_START : ASK_NOTHING;
}
