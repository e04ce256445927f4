/* request-json - what a client sends, a JSON object or form fields, as a Request.
 *
 * Fields are those of the OpenAI videos API and preheat's own. A field that neither knows is
 * refused: a misspelt "num_inference_step" must not cost somebody a wrong clip. */
#ifndef PREHEAT_REQUEST_REQUEST_JSON_H
#define PREHEAT_REQUEST_REQUEST_JSON_H

#include "request/request.h"

/* One field of a form. A file part of the name "input_reference" is the image itself; text parts
 * carry what JSON would, numbers and booleans as text, members of an object as "name[member]". */
typedef struct RequestPart {
    const char *name;
    const char *data; /* a NUL follows data[size - 1] */
    size_t size;
    bool is_file;
} RequestPart;

/* request_parse_json, request_parse_form - over the defaults in r, then validated.
 *
 *   r      after request_begin(); what it owns is freed by request_done() also after a failure
 *   fault  which field and which kind of mistake
 *
 * "size" is WIDTHxHEIGHT; the API's own 1280x720 and 720x1280 become the nearest smaller multiple
 * of size_multiple, every other size must be one. "seconds" becomes the nearest 4 n + 1 frames.
 * An image must be a data URL; addresses are refused, this server fetches nothing for anybody.
 *
 * Returns 0; -EINVAL with fault and sentence; -EFBIG when the image is over its limit; -ENOMEM. */
int request_parse_json(Request *r, const char *text, size_t n, const RequestLimits *limits,
        RequestFault *fault, Err *err);
int request_parse_form(Request *r, const RequestPart *parts, size_t n_parts,
        const RequestLimits *limits, RequestFault *fault, Err *err);

#endif
