#include "ctl/units.h"

#include "base/cleanup.h"
#include "base/macro.h"
#include "base/str.h"

#include <systemd/sd-bus.h>

#define SYSTEMD "org.freedesktop.systemd1"

/* A property of a unit, which systemd loads for that if it has to; NULL: not to be had. */
static char *property_of(
        sd_bus *bus, const char *unit, const char *interface, const char *property) {
    _cleanup_free_ char *path = NULL;
    char *value = NULL;
    if (sd_bus_path_encode("/org/freedesktop/systemd1/unit", unit, &path) < 0 ||
            sd_bus_get_property_string(bus, SYSTEMD, path, interface, property, NULL, &value) < 0)
        return NULL;
    return value;
}

static char *unit_property(sd_bus *bus, const char *unit, const char *property) {
    return property_of(bus, unit, SYSTEMD ".Unit", property);
}

json_t *units_states(void) {
    static const char *const names[] = {"preheat-fetch.service", "preheat-reserve.service",
            "run-preheat-weights.mount", "preheat-warmup.service", "preheatd.socket",
            "preheatd-api.socket", "preheatd.service", "preheat-keeper.service"};
    json_t *states = json_object();
    _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
    if (!states || sd_bus_open_system(&bus) < 0)
        return states;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        _cleanup_free_ char *load = unit_property(bus, names[i], "LoadState");
        _cleanup_free_ char *active = unit_property(bus, names[i], "ActiveState");
        if (load && active && str_eq(load, "loaded"))
            (void)json_object_set_new(states, names[i], json_string(active));
    }
    return states;
}

const char *units_depot(void) {
    _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
    if (sd_bus_open_system(&bus) < 0)
        return NULL;
    _cleanup_free_ char *preserve =
            property_of(bus, "preheatd.service", SYSTEMD ".Service", "FileDescriptorStorePreserve");
    _cleanup_free_ char *keeper = unit_property(bus, "preheat-keeper.service", "LoadState");
    if (preserve && str_eq(preserve, "yes"))
        return "systemd";
    return keeper && str_eq(keeper, "loaded") ? "preheat-keeper" : NULL;
}

json_t *units_keeping(void) {
    _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
    _cleanup_free_ char *warmup = NULL, *path = NULL;
    uint32_t n_parked = 0;
    if (sd_bus_open_system(&bus) < 0)
        return json_object();
    warmup = property_of(bus, "preheat-warmup.service", SYSTEMD ".Service", "StatusText");
    if (sd_bus_path_encode("/org/freedesktop/systemd1/unit", "preheatd.service", &path) >= 0)
        (void)sd_bus_get_property_trivial(bus, SYSTEMD, path, SYSTEMD ".Service",
                "NFileDescriptorStore", NULL, 'u', &n_parked); /* 0 where there is no such thing */
    return json_pack("{ss sb}", "warm_up", warmup ? warmup : "", "parked", n_parked > 0);
}

static const char *state_of(const json_t *states, const char *unit) {
    const char *state = json_string_value(json_object_get(states, unit));
    return state ? state : "";
}

bool units_sleep(const json_t *states) {
    const char *service = state_of(states, "preheatd.service");
    bool listens = str_eq(state_of(states, "preheatd-api.socket"), "active") ||
                   str_eq(state_of(states, "preheatd.socket"), "active");
    return listens && (str_eq(service, "inactive") || str_eq(service, "failed"));
}
