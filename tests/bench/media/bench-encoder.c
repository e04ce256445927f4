/* bench-encoder - frames a second of preheat-media, as the daemon drives it.
 *
 *   bench-encoder PREHEAT-MEDIA WxH N noise|RGB-FILE [OUT.mp4]
 *
 * Noise is the dearest that a video can hold, and what a model with random weights makes. A file
 * has raw frames of that size, which are repeated. One JSON object: seconds until the last frame
 * was taken and from there to the end, the child's processor time, the most memory it asked for. */
#include "base/clock.h"
#include "base/io.h"
#include "media/encoder.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static void fail(const char *what, const char *why) {
    (void)fprintf(stderr, "bench-encoder: %s: %s\n", what, why);
    exit(EXIT_FAILURE);
}

/* SplitMix64, eight bytes a draw. */
static void fill_noise(uint8_t *rgb, size_t n, uint64_t seed) {
    for (size_t i = 0; i + 8 <= n; i += 8) {
        uint64_t x = (seed << 32) + i * UINT64_C(0x9e3779b97f4a7c15);
        x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
        x ^= x >> 31;
        memcpy(rgb + i, &x, 8);
    }
}

/* The only child's. */
static long peak_kib(void) {
    char path[64], line[256];
    int pid = 0;
    long peak = 0;
    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    FILE *f = fopen(path, "re");
    if (!f || fscanf(f, "%d", &pid) != 1)
        pid = 0;
    if (f)
        (void)fclose(f);
    (void)snprintf(path, sizeof(path), "/proc/%d/status", pid);
    f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "VmPeak: %ld", &peak) == 1)
            break;
    if (f)
        (void)fclose(f);
    return peak;
}

int main(int argc, char **argv) {
    EncoderOptions o = {.program = argv[1], .fps = 24, .timeout_usec = 60 * USEC_PER_SEC};
    if (argc < 5 || argc > 6 || sscanf(argv[2], "%" SCNd64 "x%" SCNd64, &o.width, &o.height) != 2 ||
            sscanf(argv[3], "%" SCNd64, &o.num_frames) != 1 || o.width < 2 || o.height < 2) {
        (void)fprintf(stderr, "bench-encoder PREHEAT-MEDIA WxH N noise|RGB-FILE [OUT.mp4]\n");
        return 2;
    }
    size_t frame_bytes = (size_t)(o.width * o.height * 3), n_drawn = 16;
    int is_noise = strcmp(argv[4], "noise") == 0;
    uint8_t *frames = malloc(n_drawn * frame_bytes);
    int fd = is_noise ? -1 : open(argv[4], O_RDONLY | O_CLOEXEC);
    if (!frames || (!is_noise && fd < 0))
        fail(argv[4], strerror(errno));
    for (size_t i = 0; is_noise && i < n_drawn; i++)
        fill_noise(frames + i * frame_bytes, frame_bytes, i + 1);
    o.video_fd = argc == 6 ? open(argv[5], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)
                           : memfd_create("video", MFD_CLOEXEC);
    int thumbnail = memfd_create("thumbnail", MFD_CLOEXEC);
    o.thumbnail_fd = thumbnail;
    if (o.video_fd < 0 || thumbnail < 0)
        fail("the output", strerror(errno));

    Encoder *e = NULL;
    Err err = {0};
    uint64_t start = clock_usec(), reading = 0;
    int r = encoder_open(&o, &e, &err);
    for (int64_t i = 0; r == 0 && i < o.num_frames; i++) {
        uint8_t *frame = frames + (is_noise ? (size_t)i % n_drawn * frame_bytes : 0);
        uint64_t before = clock_usec();
        if (!is_noise && io_read_all(fd, frame, frame_bytes) != (ssize_t)frame_bytes) {
            if (i == 0)
                fail(argv[4], "not one frame of that size");
            i--;
            (void)lseek(fd, 0, SEEK_SET);
            continue;
        }
        reading += clock_usec() - before;
        r = encoder_frames(e, frame, 1, &err);
    }
    uint64_t sent = clock_usec();
    long peak = peak_kib();
    if (r == 0)
        r = encoder_finish(e, &err);
    uint64_t end = clock_usec();
    if (r < 0)
        fail("the encoder", err_text(&err));
    (void)encoder_close(e);
    struct rusage used;
    (void)getrusage(RUSAGE_CHILDREN, &used);
    double cpu = (double)used.ru_utime.tv_sec + (double)used.ru_utime.tv_usec * 1e-6 +
                 (double)used.ru_stime.tv_sec + (double)used.ru_stime.tv_usec * 1e-6;
    (void)printf("{\"size\":\"%s\",\"frames\":%" PRId64
                 ",\"what\":\"%s\",\"frames_per_s\":%.1f,\"sending_s\":%.3f,\"tail_s\":%.3f,"
                 "\"cpu_ms_per_frame\":%.1f,\"peak_mib\":%ld,\"mp4_bytes\":%jd}\n",
            argv[2], o.num_frames, argv[4],
            (double)o.num_frames * 1e6 / (double)(end - start - reading),
            (double)(sent - start - reading) * 1e-6, (double)(end - sent) * 1e-6,
            cpu * 1e3 / (double)o.num_frames, peak / 1024,
            (intmax_t)lseek(o.video_fd, 0, SEEK_END));
    return 0;
}
