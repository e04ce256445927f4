/* build-id - the names and build-ids of shared libraries, of a file or of this process. */
#ifndef PREHEAT_VERSIONS_BUILD_ID_H
#define PREHEAT_VERSIONS_BUILD_ID_H

#include "base/err.h"

#include <stddef.h>

/* Room for a name, and for a build-id of up to 32 bytes in hexadecimal digits. */
enum { SONAME_SIZE = 64, BUILD_ID_SIZE = 65 };

/* Called for each library; id is "-" for one that has none. A negative value ends the walk. */
typedef int BuildIdFunc(void *context, const char *soname, const char *id);

/* build_id_walk - the libraries that this process has loaded now, without the program itself and
 * what the kernel maps. Reads memory only. Returns 0 or what func returned. */
int build_id_walk(BuildIdFunc *func, void *context);

/* build_id_of_file - the build-id of a file, "-" when it has none.
 *
 * Returns 0; negative errno of open and read; -EBADMSG for what is no ELF file of this machine's
 * word size. */
int build_id_of_file(const char *path, char ret[static BUILD_ID_SIZE], Err *err);

/* build_id_of_notes - the build-id among the notes of one segment, "-" when there is none. Foreign
 * bytes: any are borne. */
void build_id_of_notes(const void *notes, size_t n, char ret[static BUILD_ID_SIZE]);

#endif
