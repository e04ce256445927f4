/* clean - a prompt as the model was trained to read it.
 *
 * Both reference pipelines repair prompts with ftfy.fix_text(), decode HTML references twice and
 * make every run of white space one space. All of that is done here but one step of ftfy: mojibake,
 * text that was once decoded with a wrong 8-bit code, is left as it is ("sÃ³" stays "sÃ³"), because
 * telling it from text takes guesses from large tables, and UTF-8 is what the API accepts.
 * Source: diffusers pipeline_wan.py, prompt_clean; ftfy 6.3. */
#ifndef PREHEAT_MODEL_CLEAN_H
#define PREHEAT_MODEL_CLEAN_H

#include "base/err.h"

#include <stddef.h>

/* The longest prompt that [limits] max_prompt_chars can allow has 4 * 32,000 bytes. NFC, of all
 * that is done here, lengthens text most: to three times as many bytes at most. */
enum { CLEAN_MAX_BYTES = 128 << 10, CLEAN_MAX_RESULT = 3 * CLEAN_MAX_BYTES };

/* clean_prompt - line by line and until nothing changes: references decoded (no line after one with
 * a '<' is), C1 controls read as Windows-1252, Latin ligatures spelled out, full-width and
 * half-width forms folded, curly quotes straightened, line breaks made LF, terminal escapes and
 * control characters removed, NFC; then the whole: references decoded twice, runs of white space
 * made one space, none at the ends.
 *
 * Returns 0, the caller frees *ret; -EINVAL when the text is not UTF-8, has a NUL, or more than
 * CLEAN_MAX_BYTES; -ENOMEM. */
int clean_prompt(const char *text, size_t n, char **ret, Err *err);

#endif
