#include "ctl/release.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "ctl/exit.h"

#include <inttypes.h>
#include <string.h>
#include <systemd/sd-bus.h>

#define SYSTEMD "org.freedesktop.systemd1"
#define UNIT "preheatd.service"
#define TIMER "preheat-release.timer"

static const Option options[] = {
        {"idle", 0, OPTION_FLAG, offsetof(ReleaseOptions, idle), NULL,
                "only if preheatd has been gone for [backend] park_release"},
};

const OptionTable release_table = {
        .command = "release",
        .operands = "",
        .summary = "give back the GPU memory that holds parked weights",
        .option = options,
        .n_options = ARRAY_LEN(options),
};

ReleaseStep release_decide(
        const ReleaseState *s, const ReleaseOptions *o, uint64_t after_usec, uint64_t now_usec) {
    if (s->runs)
        return RELEASE_IN_USE;
    if (s->n_kept == 0)
        return RELEASE_NOTHING;
    if (!o->idle)
        return RELEASE_NOW;
    if (after_usec == 0 || now_usec < s->since_usec || now_usec - s->since_usec < after_usec)
        return RELEASE_LATER;
    return RELEASE_NOW;
}

static int bus_error(int r, const sd_bus_error *e, const char *what, Err *err) {
    return err_set(err, r, "%s: %s", what, e->message ? e->message : strerror(-r));
}

static int look(sd_bus *bus, ReleaseState *ret, Err *err) {
    _cleanup_free_ char *path = NULL, *active = NULL;
    _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
    uint32_t n_kept = 0;
    uint64_t since = 0;
    int r = sd_bus_path_encode("/org/freedesktop/systemd1/unit", UNIT, &path);
    if (r >= 0)
        r = sd_bus_get_property_string(
                bus, SYSTEMD, path, SYSTEMD ".Unit", "ActiveState", &e, &active);
    if (r >= 0)
        r = sd_bus_get_property_trivial(
                bus, SYSTEMD, path, SYSTEMD ".Service", "NFileDescriptorStore", &e, 'u', &n_kept);
    if (r >= 0)
        r = sd_bus_get_property_trivial(bus, SYSTEMD, path, SYSTEMD ".Unit",
                "InactiveEnterTimestampMonotonic", &e, 't', &since);
    if (r < 0)
        return bus_error(r, &e, "cannot ask systemd about " UNIT, err);
    *ret = (ReleaseState){
            .runs = !str_eq(active, "inactive") && !str_eq(active, "failed"),
            .n_kept = n_kept,
            .since_usec = since,
    };
    return 0;
}

static int clean(sd_bus *bus, Err *err) {
    _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
    int r = sd_bus_call_method(bus, SYSTEMD, "/org/freedesktop/systemd1", SYSTEMD ".Manager",
            "CleanUnit", &e, NULL, "sas", UNIT, 1, "fdstore");
    return r < 0 ? bus_error(r, &e, "cannot empty the descriptor store of " UNIT, err) : 0;
}

/* Nothing is left to wait for until preheatd leaves the next time, which starts it again. */
static void stop_timer(sd_bus *bus) {
    (void)sd_bus_call_method(bus, SYSTEMD, "/org/freedesktop/systemd1", SYSTEMD ".Manager",
            "StopUnit", NULL, NULL, "ss", TIMER, "replace"); /* it would only tick on */
}

int release_run(const ReleaseOptions *o, uint64_t after_usec, FILE *out, Err *err) {
    _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
    ReleaseState state = {0};
    int r = sd_bus_open_system(&bus);
    if (r < 0)
        return err_set(err, CTL_UNREACHABLE, "cannot reach systemd: %s", strerror(-r));
    r = look(bus, &state, err);
    if (r < 0)
        return r;
    ReleaseStep step = release_decide(&state, o, after_usec, clock_usec());
    if (step == RELEASE_NOW)
        r = clean(bus, err);
    if (r < 0)
        return r;
    if (o->idle && step != RELEASE_LATER)
        stop_timer(bus);
    if (step == RELEASE_IN_USE && !o->idle)
        return err_set(err, CTL_REFUSED,
                "preheatd runs and uses the weights; stop it first: systemctl stop preheatd");
    if (step == RELEASE_NOW)
        (void)fprintf(out, "Released %" PRIu64 " parked pieces\n", state.n_kept - 1);
    else if (!o->idle)
        (void)fprintf(out, "Nothing is parked\n");
    return 0;
}
