#include "fuzz.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"

#include <dirent.h>
#include <fcntl.h>

/* Runs every file of the corpus directory, and every prefix of the short ones, through the target.
 */
int main(int argc, char **argv) {
    enum { SHORT = 4096 };
    struct dirent **entries;
    int n = argc == 2 ? scandir(argv[1], &entries, NULL, alphasort) : -1;
    int n_files = 0;
    if (n < 0) {
        (void)fprintf(stderr, "usage: %s CORPUS-DIRECTORY\n", argv[0]);
        return 2;
    }
    for (int i = 0; i < n; i++) {
        _cleanup_free_ char *path = str_format("%s/%s", argv[1], entries[i]->d_name);
        _cleanup_free_ char *data = NULL;
        size_t size;
        free(entries[i]);
        if (!path || io_read_file(AT_FDCWD, path, 64 << 20, &data, &size, NULL) < 0)
            continue; /* "." and ".." */
        (void)LLVMFuzzerTestOneInput((const uint8_t *)data, size);
        for (size_t cut = 0; size <= SHORT && cut < size; cut++) {
            uint8_t *exact = malloc(cut ? cut : 1); /* so that reading beyond it is noticed */
            if (!exact)
                return 1;
            memcpy(exact, data, cut);
            (void)LLVMFuzzerTestOneInput(exact, cut);
            free(exact);
        }
        n_files++;
    }
    free(entries);
    (void)printf("%d files\n", n_files);
    return n_files == 0;
}
