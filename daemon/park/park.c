#include "park/park.h"

#include "base/cleanup.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* In the byte order of the machine, which memory never leaves. */
typedef struct ParkFile {
    char magic[8];
    uint32_t version, head_bytes;
    Digest digest; /* of the head */
    ParkHead head;
} ParkFile;

static const char magic[8] = "preheatP";
enum { VERSION = 1, SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE };

static_assert(sizeof(ParkHead) == 16 + 16 + 16 + 16 + 32 + 8 * PARK_MAX_PIECES, "no padding");
static_assert(sizeof(ParkFile) == 32 + sizeof(ParkHead), "no padding");

int park_head_write(const ParkHead *head, int *ret_fd, Err *err) {
    ParkFile file = {.version = VERSION, .head_bytes = sizeof(*head), .head = *head};
    memcpy(file.magic, magic, sizeof(magic));
    file.digest = digest_of(head, sizeof(*head));
    _cleanup_close_ int fd = memfd_create("preheat-parked", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int r = fd < 0 ? -errno : io_write_all(fd, &file, sizeof(file));
    if (r == 0 && fcntl(fd, F_ADD_SEALS, SEALS) < 0)
        r = -errno;
    if (r < 0)
        return err_set(err, r, "cannot make the head of parked weights: %s", strerror(-r));
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static bool is_terminated(const char *text, size_t n) {
    return memchr(text, '\0', n) != NULL;
}

static int check_head(const ParkHead *h, Err *err) {
    if (!is_terminated(h->backend, sizeof(h->backend)) ||
            !is_terminated(h->residency, sizeof(h->residency)))
        return err_set(err, -EBADMSG, "a name in the head has no end");
    if (h->n_pieces == 0 || h->n_pieces > PARK_MAX_PIECES)
        return err_set(err, -EBADMSG, "the head has %" PRIu32 " pieces, allowed are 1 to %d",
                h->n_pieces, PARK_MAX_PIECES);
    for (size_t i = 0; i < PARK_MAX_PIECES; i++)
        if ((h->bytes[i] == 0) != (i >= h->n_pieces) || h->bytes[i] > SIZE_MAX / 2)
            return err_set(err, -EBADMSG,
                    "the head's piece %zu of %" PRIu32 " has %" PRIu64 " bytes", i, h->n_pieces,
                    h->bytes[i]);
    return 0;
}

int park_head_read(int fd, ParkHead *ret, Err *err) {
    ParkFile file;
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & SEALS) != SEALS)
        return err_set(err, -EBADMSG, "the head is not a sealed memory file");
    if (fstat(fd, &st) < 0 || st.st_size != sizeof(file))
        return err_set(err, -EBADMSG, "the head has %lld bytes, it must have %zu",
                (long long)st.st_size, sizeof(file));
    if (io_pread_all(fd, &file, sizeof(file), 0) != sizeof(file))
        return err_set(err, -EBADMSG, "the head cannot be read");
    if (memcmp(file.magic, magic, sizeof(magic)) != 0 || file.version != VERSION ||
            file.head_bytes != sizeof(file.head))
        return err_set(err, -EBADMSG, "the head is not of format %d", VERSION);
    Digest digest = digest_of(&file.head, sizeof(file.head));
    if (!digest_eq(&digest, &file.digest))
        return err_set(err, -EBADMSG, "the head does not have its digest");
    int r = check_head(&file.head, err);
    if (r == 0)
        *ret = file.head;
    return r;
}

static int differs(const char *what, const void *found, const void *wanted, Err *err) {
    char a[DIGEST_HEX_SIZE], b[DIGEST_HEX_SIZE];
    Digest x, y;
    memcpy(&x, found, sizeof(x));
    memcpy(&y, wanted, sizeof(y));
    return digest_eq(&x, &y) ? 0
                             : err_set(err, -ESTALE, "they are of %s %s, this is %s", what,
                                       digest_hex(&x, a), digest_hex(&y, b));
}

int park_head_compare(const ParkHead *found, const ParkHead *wanted, Err *err) {
    if (strcmp(found->backend, wanted->backend) != 0)
        return err_set(err, -ESTALE, "they are of backend '%s', this is '%s'", found->backend,
                wanted->backend);
    int r = differs("device", found->device, wanted->device, err);
    if (r == 0)
        r = differs("model", &found->model, &wanted->model, err);
    if (r == 0)
        r = differs("build", &found->build, &wanted->build, err);
    return r;
}

int park_head_compare_pieces(const ParkHead *found, const ParkHead *wanted, Err *err) {
    if (strcmp(found->residency, wanted->residency) != 0)
        return err_set(err, -ESTALE, "they are for '%s', this is '%s'", found->residency,
                wanted->residency);
    if (found->n_pieces != wanted->n_pieces)
        return err_set(err, -ESTALE, "they are %" PRIu32 " pieces, wanted are %" PRIu32,
                found->n_pieces, wanted->n_pieces);
    for (size_t i = 0; i < found->n_pieces; i++)
        if (found->bytes[i] != wanted->bytes[i])
            return err_set(err, -ESTALE, "piece %zu has %" PRIu64 " bytes, wanted are %" PRIu64, i,
                    found->bytes[i], wanted->bytes[i]);
    return 0;
}
