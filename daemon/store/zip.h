/* zip - the table of contents of a zip archive whose entries are bytes in the file.
 *
 * Entries that are compressed or encrypted, archives in several parts, bytes behind the end record
 * and tables that contradict each other are refused; 64-bit sizes and places are read. Contents
 * are not looked at, their checksums neither. */
#ifndef PREHEAT_STORE_ZIP_H
#define PREHEAT_STORE_ZIP_H

#include "base/arena.h"
#include "base/err.h"

#include <stdint.h>

enum {
    ZIP_MAX_ENTRIES = 100 * 1000, /* a checkpoint has one a tensor */
    ZIP_MAX_DIRECTORY = 32 * 1024 * 1024,
};

typedef struct ZipEntry {
    const char *name;       /* in the arena; UTF-8 */
    uint64_t header;        /* where its own header is */
    uint64_t offset, bytes; /* of the contents, in the file */
} ZipEntry;

typedef struct Zip {
    Arena arena;
    ZipEntry *entry; /* ascending by name, none twice */
    size_t n_entries;
} Zip;

/* zip_read - from the end record to every entry's own header.
 *
 * Returns 0; -EBADMSG naming the entry and what is wrong; negative errno of reading; -ENOMEM. The
 * caller frees *ret with zip_done(). */
int zip_read(int fd, uint64_t file_bytes, Zip *ret, Err *err);

/* zip_find - an entry by its name, or NULL. */
const ZipEntry *zip_find(const Zip *z, const char *name);

void zip_done(Zip *z);

#endif
