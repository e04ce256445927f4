#include "ctl/probe.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { DISK_SAMPLE_BYTES = 64 << 20, DISK_READ_BYTES = 4 << 20, RUN_USEC = 10000000 };

void probe_memory(Findings *f, const char *meminfo, uint64_t wanted, uint64_t floor_bytes) {
    char text[4096];
    Err err = {0};
    uint64_t kib = 0;
    if (io_read_proc(meminfo, text, sizeof(text), &err) < 0) {
        findings_add(f, "memory", FINDING_NOTE, NULL, "%s", err_text(&err));
        return;
    }
    const char *at = strstr(text, "MemAvailable:");
    if (!at || sscanf(at, "MemAvailable: %" SCNu64, &kib) != 1) {
        findings_add(
                f, "memory", FINDING_NOTE, NULL, "'%s' does not say what is available", meminfo);
        return;
    }
    uint64_t available = kib << 10;
    char have[STR_BYTES_SIZE], need[STR_BYTES_SIZE], left[STR_BYTES_SIZE];
    if (wanted == 0)
        findings_add(
                f, "memory", FINDING_OK, NULL, "%s available", str_bytes(have, (double)available));
    else if (available < wanted + floor_bytes)
        findings_add(f, "memory", FINDING_NOTE,
                "free memory, add some, or lower [warmup] free_memory_floor",
                "%s available, the weights take %s and %s are to stay free: they will be read from "
                "disk at each start",
                str_bytes(have, (double)available), str_bytes(need, (double)wanted),
                str_bytes(left, (double)floor_bytes));
    else
        findings_add(f, "memory", FINDING_OK, NULL, "%s available, the weights take %s",
                str_bytes(have, (double)available), str_bytes(need, (double)wanted));
}

static uint64_t count_at(const json_t *object, const char *key) {
    json_int_t n = json_integer_value(json_object_get(object, key));
    return n > 0 ? (uint64_t)n : 0;
}

void probe_huge_pages(Findings *f, const json_t *pages, uint64_t n_held) {
    if (!pages) {
        findings_add(f, "huge pages", FINDING_NOTE, NULL,
                "this kernel has none: plain shared memory is used");
        return;
    }
    uint64_t free_pages = count_at(pages, "free"), reserved = count_at(pages, "reserved");
    uint64_t surplus = count_at(pages, "surplus"), overcommit = count_at(pages, "overcommit");
    uint64_t available = (free_pages > reserved ? free_pages - reserved : 0) +
                         (overcommit > surplus ? overcommit - surplus : 0);
    uint64_t needed = count_at(pages, "needed");
    uint64_t missing = needed > n_held ? needed - n_held : 0;
    if (missing == 0)
        findings_add(f, "huge pages", FINDING_OK, NULL, "the weights have their %" PRIu64, n_held);
    else if (missing <= available)
        findings_add(f, "huge pages", FINDING_OK, NULL,
                "%" PRIu64 " of 2 MiB are to be had, %" PRIu64 " are needed", available, missing);
    else
        findings_add(f, "huge pages", FINDING_NOTE,
                "systemctl start preheat-reserve.service; 'preheatctl hugepages' tells more",
                "%" PRIu64 " of 2 MiB are to be had, %" PRIu64 " are needed: shared memory is used "
                "instead, which travels to the card more slowly",
                available, missing);
}

/* Bytes read within a second. */
static ssize_t read_sample(int fd, void *data, uint64_t *ret_usec) {
    uint64_t began = clock_usec();
    ssize_t done = 0;
    while (done < DISK_SAMPLE_BYTES && clock_usec() - began < USEC_PER_SEC) {
        ssize_t n = pread(fd, data, DISK_READ_BYTES, done);
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        done += n;
    }
    *ret_usec = clock_usec() - began;
    return done;
}

void probe_disk(Findings *f, const char *path, uint64_t total_bytes) {
    static const char name[] = "disk";
    _cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (fd < 0 && errno == EINVAL) {
        findings_add(f, name, FINDING_NOTE, "move the model to a file system that has it",
                "'%s' is on a file system without direct reads", path);
        return;
    }
    if (fd < 0) {
        findings_add(f, name, FINDING_NOTE, NULL, "cannot open '%s': %s", path, strerror(errno));
        return;
    }
    void *data = NULL;
    uint64_t usec = 0;
    char total[STR_BYTES_SIZE];
    if (posix_memalign(&data, 4096, DISK_READ_BYTES) != 0) {
        findings_add(f, name, FINDING_NOTE, NULL, "no memory to read '%s'", path);
        return;
    }
    ssize_t n = read_sample(fd, data, &usec);
    free(data);
    if (n < 0)
        findings_add(f, name, FINDING_PROBLEM, "look for disk errors: journalctl -k",
                "cannot read '%s': %s", path, strerror((int)-n));
    else if (n < (1 << 20))
        findings_add(f, name, FINDING_OK, NULL, "'%s' is too small to measure", path);
    else
        findings_add(f, name, FINDING_OK, NULL,
                "%.1f GB/s in one stream: %s of weights take about %.1f s from disk",
                (double)n / 1e3 / (double)(usec + 1), str_bytes(total, (double)total_bytes),
                (double)total_bytes / ((double)n / (double)(usec + 1)) / 1e6);
}

void probe_memlock(Findings *f) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) < 0)
        return;
    if (limit.rlim_cur == RLIM_INFINITY)
        findings_add(f, "memlock", FINDING_OK, NULL, "no limit");
    else if (limit.rlim_cur < 65536)
        findings_add(f, "memlock", FINDING_NOTE, "ulimit -l 8192",
                "%" PRIu64 " KiB: io_uring needs some on old kernels",
                (uint64_t)limit.rlim_cur >> 10);
    else
        findings_add(f, "memlock", FINDING_OK, NULL,
                "%" PRIu64 " KiB; neither the driver nor huge pages count in it",
                (uint64_t)limit.rlim_cur >> 10);
}

void probe_groups(Findings *f, const char *group) {
    const struct group *g = getgrnam(group);
    gid_t *list = NULL;
    bool member = geteuid() == 0;
    if (!g) {
        findings_add(
                f, "groups", FINDING_NOTE, "systemd-sysusers", "there is no group '%s'", group);
        return;
    }
    int n = getgroups(0, NULL);
    if (n > 0)
        list = calloc((size_t)n, sizeof(*list));
    n = list ? getgroups(n, list) : 0;
    for (int i = 0; i < n; i++)
        member |= list[i] == g->gr_gid;
    member |= getegid() == g->gr_gid;
    free(list);
    if (member)
        findings_add(f, "groups", FINDING_OK, NULL, "you may use the daemon's socket");
    else
        findings_add(f, "groups", FINDING_NOTE, "usermod -aG preheat USER, then log in again",
                "you are no member of group '%s': its socket is closed to you", group);
}

/* "127.0.0.1:8484" or "[::1]:8484" as a socket of ours. Returns 0 or negative errno. */
static int try_address(const char *address) {
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const char *colon = strrchr(address, ':');
    int64_t port;
    bool six = address[0] == '[';
    if (!colon || str_to_i64(colon + 1, &port) < 0 || port < 1 || port > UINT16_MAX)
        return -EINVAL;
    v4.sin_port = v6.sin6_port = htons((uint16_t)port);
    _cleanup_close_ int fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    if (fd < 0)
        return -errno;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)); /* else closed ones count */
    const struct sockaddr *a = six ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4;
    return bind(fd, a, six ? sizeof(v6) : sizeof(v4)) < 0 || listen(fd, 1) < 0 ? -errno : 0;
}

void probe_ports(Findings *f, const char *addresses, bool listening) {
    _cleanup_free_ char *list = strdup(addresses);
    char *rest = NULL;
    for (char *a = list ? strtok_r(list, " ", &rest) : NULL; a; a = strtok_r(NULL, " ", &rest)) {
        int r = try_address(a);
        if (r == -EADDRINUSE && listening)
            findings_add(f, "port", FINDING_OK, NULL, "%s is listened on", a);
        else if (r == -EADDRINUSE)
            findings_add(f, "port", FINDING_PROBLEM,
                    "find it: ss -ltnp; or give preheatd.socket another ListenStream=",
                    "%s is taken, by a program that systemd does not know as preheat's", a);
        else if (r == 0 && listening)
            findings_add(f, "port", FINDING_PROBLEM, "systemctl restart preheatd.socket",
                    "nobody listens on %s although preheatd.socket is active", a);
        else if (r == 0)
            findings_add(f, "port", FINDING_OK, NULL, "%s is free", a);
        else if (r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL)
            findings_add(f, "port", FINDING_OK, NULL, "%s is not of this machine", a);
        else
            findings_add(f, "port", FINDING_NOTE, NULL, "%s: %s", a, strerror(-r));
    }
}

void probe_units(Findings *f, const json_t *units) {
    const char *name;
    json_t *state;
    if (access("/run/systemd/system", F_OK) < 0) {
        findings_add(f, "units", FINDING_NOTE, NULL,
                "systemd does not run here: start preheatd yourself");
        return;
    }
    if (!json_object_size(units)) {
        findings_add(f, "units", FINDING_PROBLEM, "install the package, systemctl daemon-reload",
                "systemd knows none of preheat's units");
        return;
    }
    size_t n_bad = 0;
    json_object_foreach((json_t *)units, name, state) {
        const char *text = json_string_value(state);
        bool socket = str_ends(name, ".socket");
        char advice[120];
        if (!text || (!str_eq(text, "failed") && (!socket || str_eq(text, "active"))))
            continue;
        (void)snprintf(advice, sizeof(advice),
                socket ? "systemctl reset-failed %.60s; systemctl enable --now %.60s"
                       : "journalctl -u %.60s",
                name, name);
        findings_add(f, "units", FINDING_PROBLEM, advice, "%s is %s", name, text);
        n_bad++;
    }
    if (n_bad == 0)
        findings_add(f, "units", FINDING_OK, NULL, "%zu are installed, none has failed",
                json_object_size(units));
}

void probe_media(Findings *f, const char *program) {
    struct stat st;
    if (stat(program, &st) < 0)
        findings_add(f, "media", FINDING_PROBLEM, "install it, or correct [media] program",
                "'%s': %s: no video can be written", program, strerror(errno));
    else if (!S_ISREG(st.st_mode) || !(st.st_mode & 0111))
        findings_add(f, "media", FINDING_PROBLEM, "correct [media] program",
                "'%s' is no program: no video can be written", program);
    else
        findings_add(f, "media", FINDING_OK, NULL, "'%s'", program);
}

static int wait_for(pid_t pid, const char *name, Err *err) {
    int status = 0;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return err_set(err, -errno, "cannot wait for '%s': %s", name, strerror(errno));
    if (status == 0)
        return 0;
    return err_set(err, -ECHILD, "'%s' ended with %s %d", name,
            WIFSIGNALED(status) ? "signal" : "status",
            WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

static int read_until(int fd, size_t limit, Buf *out) {
    uint64_t deadline = clock_deadline(RUN_USEC);
    char block[4096];
    while (out->size < limit) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int left = (int)(clock_left(deadline) / USEC_PER_MSEC);
        if (left == 0)
            return -ETIMEDOUT;
        if (poll(&p, 1, left) <= 0)
            continue;
        ssize_t n = read(fd, block, MIN(sizeof(block), limit - out->size));
        if (n <= 0)
            return n < 0 ? -errno : 0;
        buf_append(out, block, (size_t)n);
    }
    return -EFBIG;
}

int probe_open_as(const char *user, const char *path) {
    const struct passwd *pw = getpwnam(user);
    if (!pw)
        return 0;
    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0) { /* the exit status is the errno */
        bool became = initgroups(user, pw->pw_gid) == 0 && setgid(pw->pw_gid) == 0 &&
                      setuid(pw->pw_uid) == 0;
        _exit(became && open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) >= 0 ? 0 : errno);
    }
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) ? -WEXITSTATUS(status) : -ECHILD;
}

int probe_run(const char *const *argv, size_t limit, char **ret, Err *err) {
    int ends[2];
    pid_t pid;
    posix_spawn_file_actions_t actions;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_set(err, -errno, "cannot make a pipe: %s", strerror(errno));
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    (void)posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    int r = -posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)argv, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(ends[1]);
    Buf out = {0};
    if (r < 0) {
        (void)err_set(err, r, "cannot run '%s': %s", argv[0], strerror(-r));
    } else {
        r = read_until(ends[0], limit, &out);
        if (r < 0)
            (void)kill(pid, SIGKILL);
        int ended = wait_for(pid, argv[0], r < 0 ? NULL : err);
        if (r < 0)
            (void)err_set(err, r, "'%s' gives no answer: %s", argv[0], strerror(-r));
        r = r < 0 ? r : ended;
    }
    (void)close(ends[0]);
    char *text = buf_take(&out);
    if (r == 0 && !text)
        text = strdup("");
    if (r == 0 && !text)
        r = err_set(err, -ENOMEM, "no memory for the answer of '%s'", argv[0]);
    if (r == 0)
        *ret = text;
    else
        free(text);
    return r;
}

/* Of the first card: "Enabled, 79000, 81559". */
static void ask_driver(Findings *f) {
    static const char *const argv[] = {"nvidia-smi",
            "--query-gpu=persistence_mode,memory.free,"
            "memory.total",
            "--format=csv,noheader,nounits", NULL};
    _cleanup_free_ char *text = NULL;
    Err err = {0};
    if (probe_run(argv, 65536, &text, &err) < 0) {
        findings_add(f, "driver", FINDING_NOTE, "install nvidia-smi to have it checked", "%s",
                err_text(&err));
        return;
    }
    char mode[24];
    unsigned long free_mib, total_mib;
    if (sscanf(text, "%23[^,], %lu, %lu", mode, &free_mib, &total_mib) != 3) {
        findings_add(f, "driver", FINDING_NOTE, NULL, "nvidia-smi says '%.60s'", text);
        return;
    }
    if (str_eq(mode, "Enabled"))
        findings_add(f, "persistence", FINDING_OK, NULL, "the driver stays loaded");
    else
        findings_add(f, "persistence", FINDING_NOTE, "systemctl enable --now nvidia-persistenced",
                "the driver is taken down when nobody uses the card: each start waits for it");
    findings_add(f, "card memory", FINDING_OK, NULL, "%.1f of %.1f GB are free",
            (double)free_mib * 0x1p20 / 1e9, (double)total_mib * 0x1p20 / 1e9);
}

void probe_card(Findings *f, const char *dev, bool wanted) {
    static const char *const names[] = {"nvidiactl", "nvidia0", "nvidia-uvm"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        _cleanup_free_ char *path = str_format("%s/%s", dev, names[i]);
        if (!path)
            return;
        if (access(path, R_OK | W_OK) == 0)
            continue;
        bool absent = errno == ENOENT;
        findings_add(f, "card", wanted || !absent ? FINDING_PROBLEM : FINDING_NOTE,
                !absent  ? "look at the rights of the device file"
                : i == 2 ? "modprobe nvidia_uvm"
                : wanted ? "install the driver, or set [backend] kind = cpu"
                         : NULL,
                "'%s': %s%s", path, strerror(errno), wanted ? "" : ", the CPU computes");
        return;
    }
    findings_add(f, "card", FINDING_OK, NULL, "its device files are there");
    ask_driver(f);
}
