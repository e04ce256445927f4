#include "test.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

static char directory[] = "/tmp/preheat-io-XXXXXX";
static int dir_fd = -1;

static int setup(void **state) {
    if (!mkdtemp(directory))
        return -1;
    dir_fd = open(directory, O_RDONLY | O_DIRECTORY);
    return dir_fd < 0 ? -1 : 0;
}

static int teardown(void **state) {
    (void)unlinkat(dir_fd, "file", 0);
    (void)close(dir_fd);
    return rmdir(directory); /* fails when a test left something behind */
}

static void files_are_replaced_whole(void **state) {
    assert_int_equal(io_write_file(dir_fd, "file", "first", 5, 0600, NULL), 0);
    assert_int_equal(io_write_file(dir_fd, "file", "2nd", 3, 0640, NULL), 0);
    _cleanup_free_ char *data = NULL;
    size_t n = 0;
    assert_int_equal(io_read_file(dir_fd, "file", 3, &data, &n, NULL), 0);
    assert_int_equal(n, 3);
    assert_string_equal(data, "2nd");
    struct stat st;
    assert_int_equal(fstatat(dir_fd, "file", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
}

static void reading_has_a_limit(void **state) {
    assert_int_equal(io_write_file(dir_fd, "file", "12345", 5, 0600, NULL), 0);
    char *data = NULL;
    size_t n;
    Err err = {0};
    assert_int_equal(io_read_file(dir_fd, "file", 4, &data, &n, &err), -EFBIG);
    assert_string_equal(err_text(&err), "'file' has 5 bytes, the limit is 4");
    err_clear(&err);
    assert_int_equal(io_read_file(dir_fd, "none", 4, &data, &n, &err), -ENOENT);
    assert_string_equal(err_text(&err), "cannot open 'none': No such file or directory");
    err_clear(&err);
    assert_int_equal(io_read_file(AT_FDCWD, directory, 4, &data, &n, &err), -EINVAL);
    assert_null(data);
}

static int count_files(void) {
    DIR *d = opendir(directory);
    int n = 0;
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    (void)closedir(d);
    return n;
}

/* A file system that is full, played by a limit on the file's size. */
static void failed_writes_leave_the_old_file(void **state) {
    assert_int_equal(io_write_file(dir_fd, "file", "old", 3, 0600, NULL), 0);
    struct rlimit before, small = {1000, RLIM_INFINITY};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small.rlim_max = before.rlim_max;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    static const char zeros[5000];
    Err err = {0};
    int r = io_write_file(dir_fd, "file", zeros, sizeof(zeros), 0600, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(r, -EFBIG);
    assert_string_equal(err_text(&err), "cannot write 'file': File too large");
    assert_int_equal(count_files(), 1);
    _cleanup_free_ char *data = NULL;
    size_t n;
    assert_int_equal(io_read_file(dir_fd, "file", 100, &data, &n, NULL), 0);
    assert_string_equal(data, "old");
}

static void *write_slowly(void *fd) {
    for (int i = 0; i < 100; i++)
        if (io_write_all(*(int *)fd, "0123456789", 10) < 0)
            break;
    (void)close(*(int *)fd);
    return NULL;
}

static void short_reads_are_continued(void **state) {
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, write_slowly, &fds[1]), 0);
    char data[2000];
    assert_int_equal(io_read_all(fds[0], data, 995), 995);
    assert_int_equal(io_read_all(fds[0], data, sizeof(data)), 5); /* the end of the file */
    assert_memory_equal(data, "56789", 5);
    assert_int_equal(pthread_join(thread, NULL), 0);
    (void)close(fds[0]);
    assert_int_equal(io_read_all(-1, data, 1), -EBADF);
    assert_int_equal(io_write_all(-1, data, 1), -EBADF);
}

static void pread_leaves_the_position(void **state) {
    assert_int_equal(io_write_file(dir_fd, "file", "0123456789", 10, 0600, NULL), 0);
    _cleanup_close_ int fd = openat(dir_fd, "file", O_RDONLY);
    char data[8];
    assert_int_equal(io_pread_all(fd, data, 4, 3), 4);
    assert_memory_equal(data, "3456", 4);
    assert_int_equal(io_pread_all(fd, data, 8, 7), 3);
    assert_int_equal(io_read_all(fd, data, 1), 1);
    assert_int_equal(data[0], '0');
}

static void files_of_proc_are_read_without_a_size(void **state) {
    char text[8];
    Err err = {0};
    assert_int_equal(io_read_proc("/proc/self/stat", text, sizeof(text), NULL), 0);
    assert_int_equal(strlen(text), sizeof(text) - 1);
    assert_int_equal(io_read_proc("/nonexistent/file", text, sizeof(text), &err), -ENOENT);
    assert_non_null(strstr(err_text(&err), "/nonexistent/file"));
    assert_int_equal(io_read_proc("/proc", text, sizeof(text), NULL), -EISDIR);
}

static void directories_are_made_with_those_above(void **state) {
    char top[] = "/tmp/preheat-test-XXXXXX", path[64], file[64];
    struct stat st;
    Err err = {0};
    assert_non_null(mkdtemp(top));
    (void)snprintf(path, sizeof(path), "%s/a//b/", top);
    (void)snprintf(file, sizeof(file), "%s/a/file", top);
    mode_t before = umask(0077);
    assert_int_equal(io_make_dirs(path, 0750, NULL), 0);
    (void)umask(before);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0750);
    assert_int_equal(chmod(path, 0700), 0);
    assert_int_equal(io_make_dirs(path, 0750, NULL), 0); /* one that was there keeps its mode */
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    close(open(file, O_CREAT | O_WRONLY, 0600));
    (void)snprintf(path, sizeof(path), "%s/a/file/c", top);
    assert_int_equal(io_make_dirs(path, 0750, &err), -ENOTDIR);
    assert_non_null(strstr(err_text(&err), path));
    (void)unlink(file);
    (void)snprintf(path, sizeof(path), "%s/a/b", top);
    (void)rmdir(path);
    (void)snprintf(path, sizeof(path), "%s/a", top);
    (void)rmdir(path);
    assert_int_equal(rmdir(top), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(files_are_replaced_whole),
            cmocka_unit_test(reading_has_a_limit),
            cmocka_unit_test(failed_writes_leave_the_old_file),
            cmocka_unit_test(short_reads_are_continued),
            cmocka_unit_test(pread_leaves_the_position),
            cmocka_unit_test(directories_are_made_with_those_above),
            cmocka_unit_test(files_of_proc_are_read_without_a_size),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
