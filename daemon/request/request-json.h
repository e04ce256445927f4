/* request-json - what a client sends, a JSON object or form fields, as a Request, and its canonical
 * JSON.
 *
 * Fields are those of the OpenAI videos API and preheat's own. A field that neither knows is
 * refused: a misspelt "num_inference_step" must not cost somebody a wrong clip. */
#ifndef PREHEAT_REQUEST_REQUEST_JSON_H
#define PREHEAT_REQUEST_REQUEST_JSON_H

#include "base/digest.h"
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
 *   r      after request_init(); what it owns is freed by request_done() also after a failure
 *   fault  which field and which kind of mistake, static text
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

/* request_to_json - canonical: every effective value, keys sorted, no white space. The image is
 * there as its size and digest. NULL when out of memory; the caller frees it. */
char *request_to_json(const Request *r);

/* request_from_json - what request_to_json() wrote, without the image's bytes: image stays NULL
 * and *ret_image tells the digest that it must have (image_bytes is set).
 *
 * Returns 0; -EBADMSG; -ENOMEM. */
int request_from_json(const char *text, Request *r, Digest *ret_image, Err *err);

/* request_identity - equal for requests that must give the same video: all that shapes the frames,
 * not priority and n. Returns 0 or -ENOMEM. */
int request_identity(const Request *r, Digest *ret);

#endif
