#include "fuzz.h"

#include "store/pth.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* The input is a whole file; what passes must have tensors that lie in it, behind its head. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    Pth p;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || (n > 0 && write(fd, data, n) != (ssize_t)n))
        abort();
    if (pth_read(fd, n, &p, NULL) == 0) {
        assert(p.head_bytes <= n);
        for (size_t i = 0; i < p.n_entries; i++)
            assert(p.entry[i].offset >= p.head_bytes && p.entry[i].offset + p.entry[i].bytes <= n);
        pth_done(&p);
    }
    (void)close(fd);
    return 0;
}
