#include "test.h"

#include "base/clock.h"
#include "media/encoder.h"
#include "running.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libswscale/swscale.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>

#define WIDTH 64
#define HEIGHT 48
#define FRAME (WIDTH * HEIGHT * 3)

static EncoderOptions options_for(int video_fd, int64_t num_frames, double fps) {
    return (EncoderOptions){
            .program = PREHEAT_MEDIA,
            .width = WIDTH,
            .height = HEIGHT,
            .num_frames = num_frames,
            .fps = fps,
            .comment = "{\"prompt\":\"ein roter Kreis \xe2\x80\x93 \xf0\x9f\x94\xb4\",\"seed\":7}",
            .timeout_usec = 20 * USEC_PER_SEC,
            .video_fd = video_fd,
            .thumbnail_fd = -1,
    };
}

static int new_file(void) {
    int fd = memfd_create("test", MFD_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

/* A bright disc that moves over a gradient; every 2 x 2 pixels alike, as chroma is kept. */
static void draw(uint8_t *rgb, int64_t frame) {
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++) {
            uint8_t *p = rgb + (y * WIDTH + x) * 3;
            int dx = x / 2 - 6 - (int)frame, dy = y / 2 - 12;
            bool disc = dx * dx + dy * dy < 16;
            p[0] = disc ? 230 : (uint8_t)(40 + x / 2 * 2);
            p[1] = disc ? 30 : (uint8_t)(60 + y / 2 * 2);
            p[2] = disc ? 40 : 90;
        }
}

static void encode_all(const EncoderOptions *o) {
    Encoder *e = NULL;
    Err err = {0};
    uint8_t rgb[2 * FRAME];
    if (encoder_open(o, &e, &err) < 0)
        fail_msg("%s", err_text(&err));
    for (int64_t i = 0; i < o->num_frames;) {
        int64_t n = o->num_frames - i > 1 ? 2 : 1;
        for (int64_t k = 0; k < n; k++)
            draw(rgb + k * FRAME, i + k);
        if (encoder_frames(e, rgb, n, &err) < 0)
            fail_msg("%s", err_text(&err));
        i += n;
    }
    if (encoder_finish(e, &err) < 0)
        fail_msg("%s", err_text(&err));
    assert_null(encoder_close(e));
}

/* What a player finds in a file. */
typedef struct Seen {
    int64_t n_frames;
    double fps, seconds, psnr; /* psnr: the worst frame's */
    char comment[256];
    enum AVColorSpace space;
    enum AVColorRange range;
} Seen;

static double frame_psnr(const AVFrame *f, int64_t number) {
    uint8_t rgb[FRAME + 64], want[FRAME];
    struct SwsContext *scale = sws_getContext(f->width, f->height, (enum AVPixelFormat)f->format,
            f->width, f->height, AV_PIX_FMT_RGB24, SWS_POINT | SWS_ACCURATE_RND, NULL, NULL, NULL);
    assert_non_null(scale);
    const int *bt709 = sws_getCoefficients(SWS_CS_ITU709);
    (void)sws_setColorspaceDetails(scale, bt709, 0, bt709, 1, 0, 1 << 16, 1 << 16);
    uint8_t *planes[4] = {rgb};
    int strides[4] = {WIDTH * 3};
    (void)sws_scale(
            scale, (const uint8_t *const *)f->data, f->linesize, 0, f->height, planes, strides);
    sws_freeContext(scale);
    draw(want, number);
    /* Chroma is flat within the disc; quantisation moved it by 7 at most. Read with the matrix of
     * BT.601 the colour would be (213, 8, 41). */
    const uint8_t *center = rgb + (24 * WIDTH + 12) * 3;
    if (number == 0)
        assert_true(abs(center[0] - 230) <= 10 && abs(center[1] - 30) <= 10 &&
                    abs(center[2] - 40) <= 10);
    double sum = 0;
    for (size_t i = 0; i < FRAME; i++)
        sum += (rgb[i] - want[i]) * (double)(rgb[i] - want[i]);
    return sum > 0 ? 10 * log10(255.0 * 255.0 * FRAME / sum) : 100;
}

static void decode_frames(AVFormatContext *format, AVCodecContext *c, Seen *seen) {
    AVPacket *packet = av_packet_alloc();
    AVFrame *frame = av_frame_alloc();
    seen->psnr = 1000;
    for (bool more = true; more;) {
        more = av_read_frame(format, packet) >= 0;
        assert_true(avcodec_send_packet(c, more ? packet : NULL) >= 0);
        while (avcodec_receive_frame(c, frame) >= 0) {
            assert_int_equal(frame->width, WIDTH);
            assert_int_equal(frame->height, HEIGHT);
            seen->psnr = fmin(seen->psnr, frame_psnr(frame, seen->n_frames++));
        }
        av_packet_unref(packet);
    }
    av_packet_free(&packet);
    av_frame_free(&frame);
}

static Seen look_at(int fd) {
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    AVFormatContext *format = NULL;
    assert_int_equal(avformat_open_input(&format, path, NULL, NULL), 0);
    assert_true(avformat_find_stream_info(format, NULL) >= 0);
    assert_int_equal(format->nb_streams, 1);
    AVStream *stream = format->streams[0];
    assert_int_equal(stream->codecpar->codec_id, AV_CODEC_ID_H264);
    assert_int_equal(stream->codecpar->format, AV_PIX_FMT_YUV420P);
    AVDictionaryEntry *comment = av_dict_get(format->metadata, "comment", NULL, 0);
    Seen seen = {
            .fps = av_q2d(stream->avg_frame_rate),
            .seconds = (double)stream->duration * av_q2d(stream->time_base),
            .space = stream->codecpar->color_space,
            .range = stream->codecpar->color_range,
    };
    (void)snprintf(seen.comment, sizeof(seen.comment), "%s", comment ? comment->value : "");
    AVCodecContext *c = avcodec_alloc_context3(avcodec_find_decoder(AV_CODEC_ID_H264));
    assert_true(c && avcodec_parameters_to_context(c, stream->codecpar) >= 0);
    assert_int_equal(avcodec_open2(c, NULL, NULL), 0);
    decode_frames(format, c, &seen);
    avcodec_free_context(&c);
    avformat_close_input(&format);
    return seen;
}

/* Position of a box at the top level of an MP4, -1 when there is none. */
static int64_t box_at(int fd, const char *name) {
    uint8_t head[8];
    int64_t at = 0;
    while (pread(fd, head, 8, at) == 8) {
        if (memcmp(head + 4, name, 4) == 0)
            return at;
        at += (int64_t)head[0] << 24 | head[1] << 16 | head[2] << 8 | head[3];
    }
    return -1;
}

static void videos_play(void **state) {
    static const struct {
        int64_t n;
        double fps, seen_fps;
    } cases[] = {{1, 24, 24}, {2, 24, 24}, {17, 16, 16}, {33, 23.976, 24000 / 1001.0},
            {9, 29.97, 30000 / 1001.0}, {5, 7.3, 7.3}, {5, 12.5, 12.5}, {3, 0.1, 0.1},
            {4, 1000, 1000}, {121, 24, 24}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int fd = new_file();
        EncoderOptions o = options_for(fd, cases[i].n, cases[i].fps);
        encode_all(&o);
        Seen seen = look_at(fd);
        assert_int_equal(seen.n_frames, cases[i].n);
        assert_true(fabs(seen.seconds - (double)cases[i].n / cases[i].seen_fps) < 0.002);
        assert_true(fabs(seen.fps - cases[i].seen_fps) < 0.001 * cases[i].seen_fps);
        assert_string_equal(seen.comment, o.comment);
        assert_int_equal(seen.space, AVCOL_SPC_BT709);
        assert_int_equal(seen.range, AVCOL_RANGE_MPEG);
        /* Encoded without loss, these frames measure 34.8 dB, which is the cost of the chroma's
         * filter; crf 17 takes up to 4.1 of it (at 1000 frames a second). */
        if (seen.psnr < 30)
            fail_msg("case %zu: %.1f dB", i, seen.psnr);
        assert_true(box_at(fd, "moov") > 0 && box_at(fd, "moov") < box_at(fd, "mdat"));
        (void)close(fd);
    }
}

static void assert_same_files(int fds[2]) {
    off_t n = lseek(fds[0], 0, SEEK_END);
    assert_int_equal(lseek(fds[1], 0, SEEK_END), n);
    void *a = mmap(NULL, (size_t)n, PROT_READ, MAP_SHARED, fds[0], 0);
    void *b = mmap(NULL, (size_t)n, PROT_READ, MAP_SHARED, fds[1], 0);
    assert_memory_equal(a, b, (size_t)n);
    (void)munmap(a, (size_t)n);
    (void)munmap(b, (size_t)n);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static void same_frames_same_bytes(void **state) {
    int fds[2] = {new_file(), new_file()};
    for (int i = 0; i < 2; i++) {
        EncoderOptions o = options_for(fds[i], 20, 24);
        encode_all(&o);
    }
    assert_same_files(fds);
}

/* Motion for the search to find, under noise that takes time to encode. */
static void draw_large(uint8_t *rgb, int64_t width, int64_t height, int64_t frame) {
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width * 3; x++) {
            int64_t at = (y + frame * 5) * 2654435761 + (x + frame * 9) * 40503;
            rgb[y * width * 3 + x] =
                    (uint8_t)((x + y + frame * 7) % 160 + (at >> 9 & 63) + (at * frame >> 7 & 31));
        }
}

/* Tall enough for eight threads. */
static void encode_large(int fd) {
    EncoderOptions o = options_for(fd, 40, 24);
    o.width = 320;
    o.height = 704;
    uint8_t *rgb = malloc((size_t)(o.width * o.height * 3));
    assert_non_null(rgb);
    Encoder *e = NULL;
    Err err = {0};
    int r = encoder_open(&o, &e, &err);
    for (int64_t i = 0; r == 0 && i < o.num_frames; i++) {
        draw_large(rgb, o.width, o.height, i);
        r = encoder_frames(e, rgb, 1, &err);
    }
    if (r < 0 || encoder_finish(e, &err) < 0)
        fail_msg("%s", err_text(&err));
    assert_null(encoder_close(e));
    free(rgb);
}

/* On one processor the threads take turns in another order than on several. */
static void threads_give_the_same_bytes(void **state) {
    int fds[2] = {new_file(), new_file()};
    cpu_set_t all, one;
    assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
    encode_large(fds[0]);
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    encode_large(fds[1]);
    assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
    assert_same_files(fds);
}

static void thumbnail_is_the_first_frame(void **state) {
    int fd = new_file(), thumbnail_fd = new_file();
    EncoderOptions o = options_for(fd, 5, 24);
    o.thumbnail_fd = thumbnail_fd;
    encode_all(&o);
    uint8_t head[16];
    assert_int_equal(pread(thumbnail_fd, head, 16, 0), 16);
    assert_memory_equal(head, "RIFF", 4);
    assert_memory_equal(head + 8, "WEBPVP8 ", 8);
    (void)close(fd);
    (void)close(thumbnail_fd);
}

/* It is written beside the video; the video alone is not enough. */
static void failed_thumbnail_is_told(void **state) {
    int fd = new_file(), full_fd = open("/dev/full", O_RDWR | O_CLOEXEC);
    assert_true(full_fd >= 0);
    EncoderOptions o = options_for(fd, 1, 24);
    o.thumbnail_fd = full_fd;
    Encoder *e = NULL;
    Err err = {0};
    uint8_t rgb[FRAME];
    draw(rgb, 0);
    assert_int_equal(encoder_open(&o, &e, &err), 0);
    assert_int_equal(encoder_frames(e, rgb, 1, &err), 0);
    assert_int_equal(encoder_finish(e, &err), -ENOSPC);
    assert_non_null(strstr(err_text(&err), "the disk is full: cannot write the thumbnail's "));
    assert_null(encoder_close(e));
    (void)close(fd);
    (void)close(full_fd);
}

/* An encoder whose child has begun: a frame larger than what a socket holds was sent. */
static Encoder *begin(int video_fd, uint64_t timeout_usec) {
    static uint8_t rgb[1280 * 704 * 3];
    EncoderOptions o = options_for(video_fd, 1000, 24);
    o.width = 1280;
    o.height = 704;
    o.timeout_usec = timeout_usec;
    Encoder *e = NULL;
    Err err = {0};
    if (encoder_open(&o, &e, &err) < 0 || encoder_frames(e, rgb, 1, &err) < 0)
        fail_msg("%s", err_text(&err));
    return e;
}

/* Sends frames until that fails. */
static int send_until_failure(Encoder *e, Err *err) {
    static uint8_t rgb[1280 * 704 * 3];
    for (int i = 0; i < 900; i++) {
        for (size_t k = 0; k < sizeof(rgb); k += 7) /* hard to compress */
            rgb[k] = (uint8_t)(rgb[k] * 31 + k + (size_t)i);
        int r = encoder_frames(e, rgb, 1, err);
        if (r < 0)
            return r;
    }
    fail_msg("no failure came");
    return 0;
}

static void killed_child_is_an_error(void **state) {
    int fd = new_file();
    Encoder *e = begin(fd, 20 * USEC_PER_SEC);
    assert_int_equal(kill(running_child(), SIGKILL), 0);
    Err err = {0};
    assert_int_equal(send_until_failure(e, &err), -EPIPE);
    assert_string_equal(err_text(&err), "preheat-media was ended by signal 9 (Killed)");
    assert_null(encoder_close(e));
    assert_int_equal(running_child(), 0);
    (void)close(fd);
}

static void hung_child_is_an_error(void **state) {
    int fd = new_file();
    Encoder *e = begin(fd, 2 * USEC_PER_SEC); /* which a start under sanitizers keeps */
    assert_int_equal(kill(running_child(), SIGSTOP), 0);
    uint64_t start = clock_usec();
    Err err = {0};
    assert_int_equal(send_until_failure(e, &err), -ETIMEDOUT);
    assert_string_equal(err_text(&err), "preheat-media took no data for 2000 ms");
    assert_true(clock_usec() - start < 10 * USEC_PER_SEC);
    assert_null(encoder_close(e));
    assert_int_equal(running_child(), 0);
    (void)close(fd);
}

static void hang_at_the_end_is_an_error(void **state) {
    int fd = new_file();
    EncoderOptions o = options_for(fd, 1, 24);
    o.timeout_usec = 300 * USEC_PER_MSEC;
    Encoder *e = NULL;
    assert_int_equal(encoder_open(&o, &e, NULL), 0);
    assert_int_equal(kill(running_child(), SIGSTOP), 0);
    uint8_t rgb[FRAME];
    draw(rgb, 0);
    Err err = {0};
    assert_int_equal(encoder_frames(e, rgb, 1, &err), 0);
    assert_int_equal(encoder_finish(e, &err), -ETIMEDOUT);
    assert_string_equal(err_text(&err), "preheat-media did not end in the time allowed");
    assert_null(encoder_close(e));
    (void)close(fd);
}

static void closing_kills(void **state) {
    int fd = new_file();
    Encoder *e = begin(fd, 20 * USEC_PER_SEC);
    pid_t pid = running_child();
    assert_true(pid > 0);
    assert_null(encoder_close(e));
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(errno, ESRCH);
    assert_null(encoder_close(NULL));
    (void)close(fd);
}

static void full_device_is_told(void **state) {
    int fd = open("/dev/full", O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    EncoderOptions o = options_for(fd, 1000, 24);
    o.width = 1280;
    o.height = 704;
    Encoder *e = NULL;
    Err err = {0};
    assert_int_equal(encoder_open(&o, &e, &err), 0);
    assert_int_equal(send_until_failure(e, &err), -ENOSPC);
    assert_string_equal(
            err_text(&err), "preheat-media: the disk is full: cannot begin the MP4 after 0 bytes");
    assert_null(encoder_close(e));
    (void)close(fd);
}

/* Returns 0 on success, 77 where mounting is not allowed. */
static int fill_small_disk(void) {
    char place[] = "/tmp/preheat-test-XXXXXX";
    if (!mkdtemp(place))
        return 1;
    int r = unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
                            mount("tmpfs", place, "tmpfs", 0, "size=256k") < 0
                    ? 77
                    : 0;
    if (r == 0) {
        char path[64];
        (void)snprintf(path, sizeof(path), "%s/video.mp4", place);
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        Err err = {0};
        Encoder *e = begin(fd, 20 * USEC_PER_SEC);
        r = send_until_failure(e, &err) == -ENOSPC ? 0 : 1;
        (void)encoder_close(e);
        (void)close(fd);
        (void)umount(place);
    }
    (void)rmdir(place);
    return r;
}

static void full_disk_is_told(void **state) {
    pid_t pid = fork();
    if (pid == 0)
        _exit(fill_small_disk());
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void too_little_memory_is_told(void **state) {
#ifdef __SANITIZE_ADDRESS__
    skip();
#endif
    int fd = new_file();
    EncoderOptions o = options_for(fd, 100, 24);
    o.width = o.height = 8192;
    o.memory_limit_bytes = 400 << 20;
    uint8_t *rgb = calloc(1, 8192 * 8192 * 3);
    assert_non_null(rgb);
    Encoder *e = NULL;
    Err err = {0};
    int r = encoder_open(&o, &e, &err);
    for (int i = 0; r == 0 && i < 100; i++)
        r = encoder_frames(e, rgb, 1, &err);
    assert_true(r == -ENOMEM || r == -EIO); /* x264 does not say why it does not open */
    assert_non_null(strstr(err_text(&err), "memory"));
    assert_null(encoder_close(e));
    free(rgb);
    (void)close(fd);
}

static void missing_frames_are_told(void **state) {
    int fd = new_file();
    EncoderOptions o = options_for(fd, 3, 24);
    Encoder *e = NULL;
    assert_int_equal(encoder_open(&o, &e, NULL), 0);
    Err err = {0};
    assert_int_equal(encoder_finish(e, &err), -EINVAL);
    assert_string_equal(err_text(&err), "the video still misses 3 frames");
    assert_null(encoder_close(e));
    (void)close(fd);
}

static void bad_options_are_refused(void **state) {
    int fd = new_file(), append_fd = new_file(), null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    assert_int_equal(fcntl(append_fd, F_SETFL, O_APPEND), 0);
    EncoderOptions good = options_for(fd, 3, 24), bad[9];
    for (size_t i = 0; i < 9; i++)
        bad[i] = good;
    char *long_comment = malloc(ENCODER_MAX_COMMENT_BYTES + 2);
    assert_non_null(long_comment);
    memset(long_comment, 'x', ENCODER_MAX_COMMENT_BYTES + 1);
    long_comment[ENCODER_MAX_COMMENT_BYTES + 1] = '\0';
    bad[0].width = 63;
    bad[1].height = 0;
    bad[2].width = 16386;
    bad[3].num_frames = 0;
    bad[4].fps = 0;
    bad[5].fps = NAN;
    bad[6].comment = long_comment;
    bad[7].video_fd = append_fd;
    bad[8].video_fd = null_fd;
    for (size_t i = 0; i < 9; i++) {
        Encoder *e = NULL;
        Err err = {0};
        assert_int_equal(encoder_open(&bad[i], &e, &err), -EINVAL);
        assert_true(err.text[0]);
        assert_null(e);
    }
    EncoderOptions none = good;
    none.program = "/nowhere/preheat-media";
    Encoder *e = NULL;
    Err err = {0};
    assert_int_equal(encoder_open(&none, &e, &err), -ENOENT);
    assert_string_equal(
            err_text(&err), "cannot start '/nowhere/preheat-media': No such file or directory");
    free(long_comment);
    (void)close(fd);
    (void)close(append_fd);
    (void)close(null_fd);
}

/* Of one thread of the child. */
static void assert_no_rights(pid_t pid, const char *thread) {
    static const struct {
        const char *field, *value;
    } wanted[] = {{"Seccomp", "2"}, {"NoNewPrivs", "1"}, {"CapEff", "0000000000000000"},
            {"CapPrm", "0000000000000000"}};
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        char text[128];
        running_status(pid, thread, wanted[i].field, text, sizeof(text));
        assert_string_equal(text, wanted[i].value);
    }
}

/* The real program, while it works: what the kernel says about its rights. */
static void child_has_no_rights(void **state) {
    int fd = new_file(), secret = open("/proc/self/status", O_RDONLY); /* inheritable */
    Encoder *e = begin(fd, 20 * USEC_PER_SEC);
    pid_t pid = running_child();
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *threads = opendir(path);
    assert_non_null(threads);
    int n_threads = 0;
    for (struct dirent *d; (d = readdir(threads));)
        if (d->d_name[0] != '.') {
            assert_no_rights(pid, d->d_name);
            n_threads++;
        }
    (void)closedir(threads);
    /* The frame is 704 rows high. */
    assert_true(n_threads > (avcodec_find_encoder_by_name("libx264") ? 8 : 0));
    for (int n = 3; n < 64; n++) {
        (void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, n);
        assert_int_equal(access(path, F_OK), -1);
    }
    assert_null(encoder_close(e));
    (void)close(fd);
    (void)close(secret);
}

int main(void) {
    (void)signal(SIGPIPE, SIG_DFL); /* nothing here may need it ignored */
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(videos_play),
            cmocka_unit_test(same_frames_same_bytes),
            cmocka_unit_test(threads_give_the_same_bytes),
            cmocka_unit_test(thumbnail_is_the_first_frame),
            cmocka_unit_test(failed_thumbnail_is_told),
            cmocka_unit_test(killed_child_is_an_error),
            cmocka_unit_test(hung_child_is_an_error),
            cmocka_unit_test(hang_at_the_end_is_an_error),
            cmocka_unit_test(closing_kills),
            cmocka_unit_test(full_device_is_told),
            cmocka_unit_test(full_disk_is_told),
            cmocka_unit_test(too_little_memory_is_told),
            cmocka_unit_test(missing_frames_are_told),
            cmocka_unit_test(bad_options_are_refused),
            cmocka_unit_test(child_has_no_rights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
