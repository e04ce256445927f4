/* entity - HTML character references in text, decoded. */
#ifndef PREHEAT_MODEL_ENTITY_H
#define PREHEAT_MODEL_ENTITY_H

#include "base/buf.h"

#include <stddef.h>
#include <stdint.h>

/* entity_decode - text with every reference replaced, as HTML 5 says for text: decimal,
 * hexadecimal, named (the longest name that fits, its semicolon often optional); what cannot be
 * text becomes U+FFFD or nothing. n bytes of UTF-8. Source: Python html.unescape. */
void entity_decode(Buf *to, const char *text, size_t n);

/* entity_decode_sure - replaces only what is surely meant as a reference: it ends in a semicolon
 * and its whole name is known. Names of letters and signs may also be in capitals where that is no
 * name of its own, for the capital: "&EACUTE;". Source: ftfy.fixes.unescape_html. */
void entity_decode_sure(Buf *to, const char *text, size_t n);

/* entity_put - one code point as UTF-8. */
void entity_put(Buf *to, uint32_t code);

/* entity_from_windows - what Windows-1252 has at 0x80 to 0x9F; the C1 control itself where it has
 * nothing. */
uint32_t entity_from_windows(uint32_t code);

#endif
