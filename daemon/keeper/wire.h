/* wire - the packets between preheat-keeper and its clients, byte by byte.
 *
 * The socket is a unix SOCK_SEQPACKET: a packet is one request or one answer, whole or not at all,
 * and its descriptors (SCM_RIGHTS) travel with it. Each request gets one answer. Numbers are in the
 * byte order of the machine, which no packet leaves.
 *
 *   request, 32 bytes                       answer, 16 bytes, then n names of 24 bytes
 *    0   4  "PHK1"                           0   4  "PHK1"
 *    4   1  operation, WireOp                4   4  0, or a negative errno
 *    5   3  zeros                            8   4  count, see below
 *    8  24  name, zeros after it            12   4  n
 *                                           16  24  first name, ...
 *
 *   operation  name      descriptors  answer's count     names        descriptors
 *   store      its name  exactly one  held from now on   -            -
 *   remove     of which, none         closed by this     -            -
 *              zeros: all
 *   list       zeros     none         held               of all       -
 *   fetch      zeros     none         held               of all       all, in the names' order
 *
 * A name is 1 to 23 of a-z, 0-9 and '-'; storing under a name that is taken closes what it stood
 * for. At most WIRE_MAX_KEPT are held, so that one packet carries all: -ENOSPC. A request that is
 * none of these gets -EBADMSG, a name out of the rule -EINVAL, descriptors that were lost on the
 * way -EMFILE, another user than root and the keeper's own -EACCES; after each of these four the
 * keeper closes the connection, and what it holds is as before. It also closes a connection that
 * has been silent for SERVER_CLIENT_USEC, and one whose answer finds no room. */
#ifndef PREHEAT_KEEPER_WIRE_H
#define PREHEAT_KEEPER_WIRE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    WIRE_MAX_FDS = 253,  /* what Linux lets one packet carry */
    WIRE_MAX_KEPT = 251, /* a head and PARK_MAX_PIECES pieces */
    WIRE_NAME_SIZE = 24
};
static_assert((int)WIRE_MAX_KEPT <= (int)WIRE_MAX_FDS, "one packet carries all");

#define WIRE_MAGIC "PHK1"

typedef enum WireOp {
    WIRE_STORE = 1,
    WIRE_REMOVE = 2,
    WIRE_LIST = 3,
    WIRE_FETCH = 4,
} WireOp;

typedef struct WireRequest {
    char magic[4];
    uint8_t op, zero[3];
    char name[WIRE_NAME_SIZE];
} WireRequest;

typedef struct WireAnswer {
    char magic[4];
    int32_t code;
    uint32_t count, n;
    char name[WIRE_MAX_KEPT][WIRE_NAME_SIZE];
} WireAnswer;

enum { WIRE_ANSWER_HEAD_BYTES = offsetof(WireAnswer, name) };
static_assert(sizeof(WireRequest) == 32 && WIRE_ANSWER_HEAD_BYTES == 16, "no padding");

/* wire_name_is_good - whether it is a name, with nothing but zeros after it. */
bool wire_name_is_good(const char name[static WIRE_NAME_SIZE]);

/* wire_name_set - false where text is no such name. */
bool wire_name_set(char name[static WIRE_NAME_SIZE], const char *text);

/* wire_send - one packet with its descriptors, which stay the caller's. Waits as the socket does.
 * Returns 0; negative errno. */
int wire_send(int socket, const void *data, size_t n, const int *fds, size_t n_fds);

/* wire_receive - one packet.
 *
 *   ret_fd, ret_n_fds  close-on-exec, the caller's; none where this fails
 *
 * Returns its bytes; 0 at the connection's end; -EMSGSIZE where it has more than room; -EMFILE
 * where descriptors were lost; negative errno. */
ssize_t wire_receive(
        int socket, void *data, size_t room, int ret_fd[static WIRE_MAX_FDS], size_t *ret_n_fds);

/* wire_close_all - descriptors that nobody wants. */
void wire_close_all(const int *fds, size_t n);

#endif
