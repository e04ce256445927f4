#include "media/codec/sandbox.h"

#include "base/cleanup.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <malloc.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define N_KEPT_FDS 4 /* see media/wire.h */

static int set_limit(int resource, const char *name, uint64_t value, Err *err) {
    struct rlimit have, want = {.rlim_cur = value, .rlim_max = value};
    if (getrlimit((__rlimit_resource_t)resource, &have) == 0 && have.rlim_max < value)
        want.rlim_cur = want.rlim_max = have.rlim_max; /* a stricter one was inherited */
    if (setrlimit((__rlimit_resource_t)resource, &want) < 0)
        return err_set(
                err, -errno, "cannot limit %s to %ju: %s", name, (uintmax_t)value, strerror(errno));
    return 0;
}

static int set_limits(const SandboxLimits *l, Err *err) {
    /* A write beyond the limit shall fail with EFBIG instead of ending us without a word. */
    if (signal(SIGXFSZ, SIG_IGN) == SIG_ERR)
        return err_set(err, -errno, "cannot ignore SIGXFSZ: %s", strerror(errno));
    int r = set_limit(RLIMIT_CPU, "processor seconds", l->cpu_sec, err);
    if (r == 0)
        r = set_limit(RLIMIT_FSIZE, "bytes of a file", l->file_bytes, err);
    if (r == 0)
        r = set_limit(RLIMIT_NOFILE, "descriptors", N_KEPT_FDS, err);
    if (r == 0)
        r = set_limit(RLIMIT_CORE, "bytes of a core dump", 0, err);
#ifndef PREHEAT_SANITIZER
    /* Else every thread that allocates reserves 64 MiB of the address space. */
    (void)mallopt(M_ARENA_MAX, 1);
    if (r == 0)
        r = set_limit(RLIMIT_AS, "bytes of memory", l->memory_bytes, err);
#endif
    return r;
}

static int drop_privileges(Err *err) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_set(err, -errno, "cannot set no_new_privs: %s", strerror(errno));
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return err_set(err, -errno, "cannot forbid core dumps: %s", strerror(errno));
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
    struct __user_cap_data_struct have[_LINUX_CAPABILITY_U32S_3];
    /* The daemon's unit has none to drop, and its filter forbids even that. */
    if (syscall(SYS_capget, &head, have) == 0 && memcmp(have, none, sizeof(none)) == 0)
        return 0;
    if (syscall(SYS_capset, &head, none) < 0)
        return err_set(err, -errno, "cannot drop capabilities: %s", strerror(errno));
    return 0;
}

/* As in linux/landlock.h of kernel 6.12; the headers of the build machine may be older. */
typedef struct LandlockRuleset {
    uint64_t handled_access_fs;
    uint64_t handled_access_net; /* ABI 4 */
    uint64_t scoped;             /* ABI 6 */
} LandlockRuleset;

/* Every right that this kernel's Landlock knows, and no rule that gives one back. */
static LandlockRuleset landlock_nothing(int abi, size_t *ret_bytes) {
    unsigned n_fs_rights = abi >= 5 ? 16 : abi >= 3 ? 15 : abi == 2 ? 14 : 13;
    LandlockRuleset rules = {.handled_access_fs = (UINT64_C(1) << n_fs_rights) - 1};
    *ret_bytes = offsetof(LandlockRuleset, handled_access_net);
    if (abi >= 4) {
        rules.handled_access_net = 3; /* bind and connect over TCP */
        *ret_bytes = offsetof(LandlockRuleset, scoped);
    }
    if (abi >= 6) {
        rules.scoped = 3; /* abstract unix sockets and signals */
        *ret_bytes = sizeof(rules);
    }
    return rules;
}

static int enter_landlock(Err *err) {
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, 1 /* tell the version */);
    if (abi < 1)
        return 0; /* not in this kernel, or turned off */
    size_t n_bytes;
    LandlockRuleset rules = landlock_nothing((int)abi, &n_bytes);
    _cleanup_close_ int fd = (int)syscall(SYS_landlock_create_ruleset, &rules, n_bytes, 0);
    if (fd < 0 || syscall(SYS_landlock_restrict_self, fd, 0) < 0)
        return err_set(err, -errno, "cannot enter Landlock version %ld: %s", abi, strerror(errno));
    return 0;
}

/* Arithmetic on bytes that are already here. */
static const int allowed_calls[] = {
        SCMP_SYS(read),
        SCMP_SYS(pread64),
        SCMP_SYS(readv),
        SCMP_SYS(write),
        SCMP_SYS(pwrite64),
        SCMP_SYS(writev),
        SCMP_SYS(lseek),
        SCMP_SYS(close),
        SCMP_SYS(brk),
        SCMP_SYS(munmap),
        SCMP_SYS(mremap),
        SCMP_SYS(madvise),
        SCMP_SYS(futex),
        SCMP_SYS(getrandom),
        SCMP_SYS(clock_gettime),
        SCMP_SYS(gettimeofday),
        SCMP_SYS(sched_getaffinity),
        SCMP_SYS(sched_yield),
        SCMP_SYS(getpid),
        SCMP_SYS(gettid),
        SCMP_SYS(rt_sigreturn),
        SCMP_SYS(rt_sigprocmask),
        SCMP_SYS(restart_syscall),
        SCMP_SYS(exit),
        SCMP_SYS(exit_group),
#ifdef PREHEAT_SANITIZER
        SCMP_SYS(sigaltstack),
        SCMP_SYS(rt_sigaction),
        SCMP_SYS(getrlimit),
        SCMP_SYS(prlimit64),
        SCMP_SYS(openat),
        SCMP_SYS(readlink),
        SCMP_SYS(readlinkat),
        SCMP_SYS(newfstatat),
        SCMP_SYS(fstat),
        SCMP_SYS(prctl),
#endif
};

static int add_rules(scmp_filter_ctx filter) {
    for (size_t i = 0; i < ARRAY_LEN(allowed_calls); i++) {
        int r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed_calls[i], 0);
        if (r < 0)
            return r;
    }
    /* Memory, but none that is executable. */
    int r = seccomp_rule_add(
            filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    /* abort() signals its own process. */
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0));
    return r;
}

/* What pthread_create() calls. The C library falls back to clone() where clone3(), whose flags no
 * filter can see, is unknown. Who could unshare a namespace or start a process would have to leave
 * out, or to add, one of these flags. */
static int add_thread_rules(scmp_filter_ctx filter) {
    enum {
        NEEDED = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD,
        REFUSED = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
                  CLONE_NEWPID | CLONE_NEWNET | CLONE_PTRACE | CLONE_VFORK | CLONE_PARENT
    };
    int r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
            SCMP_A0(SCMP_CMP_MASKED_EQ, (scmp_datum_t)(unsigned)(NEEDED | REFUSED), NEEDED));
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(set_robust_list), 0);
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(rseq), 0);
    return r;
}

static int enter_filter(bool threads, Err *err) {
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!filter)
        return err_set(err, -ENOMEM, "no memory for the filter of system calls");
    int r = add_rules(filter);
    if (r == 0 && threads)
        r = add_thread_rules(filter);
    if (r == 0)
        r = seccomp_load(filter);
    seccomp_release(filter);
    if (r < 0)
        return err_set(err, r, "cannot filter system calls: %s", strerror(-r));
    return 0;
}

int sandbox_enter(const SandboxLimits *limits, Err *err) {
    if (close_range(N_KEPT_FDS, ~0U, 0) < 0)
        return err_set(err, -errno, "cannot close descriptors: %s", strerror(errno));
    int r = drop_privileges(err);
    if (r == 0)
        r = enter_landlock(err);
    if (r == 0)
        r = set_limits(limits, err);
    return r < 0 ? r : enter_filter(limits->threads, err);
}
