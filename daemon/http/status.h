/* status - what a negative errno is to an HTTP client; the only place that knows. */
#ifndef PREHEAT_HTTP_STATUS_H
#define PREHEAT_HTTP_STATUS_H

typedef struct HttpStatus {
    unsigned status;
    const char *type; /* of the API's error object */
    const char *code; /* where no better one is known; NULL: null */
} HttpStatus;

HttpStatus http_status(int code);

#endif
