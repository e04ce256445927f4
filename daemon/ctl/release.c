#include "ctl/release.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/size.h"
#include "base/str.h"
#include "ctl/card.h"
#include "ctl/exit.h"
#include "keeper/keeper.h"
#include "park/note.h"

#include <inttypes.h>
#include <string.h>
#include <systemd/sd-bus.h>

#define SYSTEMD "org.freedesktop.systemd1"
#define UNIT "preheatd.service"
#define TIMER "preheat-release.timer"
#define KEEPER "preheat-keeper.service"

static const Option options[] = {
        {"idle", 0, OPTION_FLAG, offsetof(ReleaseOptions, idle), NULL,
                "only after [backend] park_release, or with less than vram_floor free"},
};

const OptionTable release_table = {
        .command = "release",
        .operands = "",
        .summary = "Gives back the GPU memory in which weights are parked.",
        .option = options,
        .n_options = ARRAY_LEN(options),
};

ReleaseStep release_decide(const ReleaseState *s, const ReleaseOptions *o,
        const ReleaseRules *rules, uint64_t now_usec) {
    uint64_t after_usec = rules->after_usec;
    if (s->runs)
        return RELEASE_IN_USE;
    if (s->n_kept == 0)
        return RELEASE_NOTHING;
    if (!o->idle || s->free_bytes < rules->floor_bytes)
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
            .free_bytes = UINT64_MAX,
    };
    return 0;
}

/* A keeper that does not run holds nothing, and is not started to be asked. */
static int look_at_keeper(sd_bus *bus, ReleaseState *s, Err *err) {
    _cleanup_free_ char *path = NULL, *active = NULL;
    _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
    size_t n = 0;
    int r = sd_bus_path_encode("/org/freedesktop/systemd1/unit", KEEPER, &path);
    if (r >= 0)
        r = sd_bus_get_property_string(
                bus, SYSTEMD, path, SYSTEMD ".Unit", "ActiveState", &e, &active);
    if (r < 0)
        return bus_error(r, &e, "cannot ask systemd about " KEEPER, err);
    if (!str_eq(active, "active"))
        return 0;
    r = keeper_count(KEEPER_SOCKET, &n, err);
    s->keeper = r == 0 && n > 0;
    s->n_kept += n;
    return r;
}

/* What cannot be learnt is no reason to give anything back. */
static void look_at_card(const ReleaseRules *rules, ReleaseState *s) {
    char card[NOTE_CARD_SIZE] = "";
    Err err = {0};
    int r = note_read(rules->state_dir, card, &err);
    if (r == 0 && !card[0])
        return; /* on the CPU */
    if (r == 0 || r == -ENOENT) {
        err_clear(&err);
        r = card_free(rules->library, card, rules->device, &s->free_bytes, &err);
    }
    if (r < 0)
        log_info("vram_floor is not watched: %s", err_text(&err));
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

static void report(const ReleaseState *s, const ReleaseOptions *o, const ReleaseRules *rules,
        ReleaseStep step, FILE *out) {
    if (step == RELEASE_NOW && o->idle && s->free_bytes < rules->floor_bytes)
        (void)fprintf(out,
                "Released %" PRIu64 " parked pieces: %" PRIu64 " MiB of the card are free, "
                "vram_floor is %" PRIu64 " MiB\n",
                s->n_kept - 1, s->free_bytes / MIB, rules->floor_bytes / MIB);
    else if (step == RELEASE_NOW)
        (void)fprintf(out, "Released %" PRIu64 " parked pieces\n", s->n_kept - 1);
    else if (!o->idle)
        (void)fprintf(out, "Nothing is parked\n");
}

int release_run(const ReleaseOptions *o, const ReleaseRules *rules, FILE *out, Err *err) {
    _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
    ReleaseState state = {0};
    int r = sd_bus_open_system(&bus);
    if (r < 0)
        return err_set(err, CTL_UNREACHABLE, "cannot reach systemd: %s", strerror(-r));
    r = look(bus, &state, err);
    if (r == 0 && !state.runs)
        r = look_at_keeper(bus, &state, err);
    if (r < 0)
        return r;
    if (o->idle && !state.runs && state.n_kept > 0 && rules->floor_bytes > 0)
        look_at_card(rules, &state);
    ReleaseStep step = release_decide(&state, o, rules, clock_usec());
    if (step == RELEASE_NOW)
        r = state.keeper ? keeper_remove(KEEPER_SOCKET, NULL, NULL, err) : clean(bus, err);
    if (r < 0)
        return r;
    if (o->idle && step != RELEASE_LATER)
        stop_timer(bus);
    if (step == RELEASE_IN_USE && !o->idle)
        return err_set(err, CTL_REFUSED,
                "preheatd runs and uses the weights; stop it first: systemctl stop preheatd");
    report(&state, o, rules, step, out);
    return 0;
}
