/* order - when a request first needs a tensor, judged by its name. */
#ifndef PREHEAT_STORE_ORDER_H
#define PREHEAT_STORE_ORDER_H

#include <stdint.h>

/* order_of - smaller is earlier; tensors of one layer share a number.
 *
 * Text encoder (embedding table, blocks in order, last norm), transformer (embedders, blocks in
 * order, head), VAE (decoder from the latent on, then the encoder, which only image-to-video
 * needs). Unknown names come last within their part, unknown parts last of all. */
uint32_t order_of(const char *part, const char *name);

#endif
