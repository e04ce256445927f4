#include "store/order.h"

#include "base/macro.h"
#include "base/str.h"

#include <stdlib.h>

enum { ORDER_PART = 100000, ORDER_MAX_LAYER = 9999, ORDER_REST = ORDER_PART - 1 };

/* A name that starts with prefix gets `first`, plus the number that follows where numbered. The
 * first line that fits counts. */
static const struct {
    uint32_t part;
    const char *prefix;
    uint32_t first;
    bool numbered;
} rules[] = {
        {0, "shared.", 0, false},
        {0, "encoder.embed_tokens.", 0, false},
        {0, "encoder.block.", 1, true},
        {1, "patch_embedding.", 0, false},
        {1, "condition_embedder.", 0, false},
        {1, "blocks.", 1, true},
        {2, "post_quant_conv.", 0, false},
        {2, "decoder.conv_in.", 0, false},
        {2, "decoder.mid_block.", 1, false},
        {2, "decoder.up_blocks.", 2, true},
        {2, "decoder.", 20000, false},
        {2, "encoder.conv_in.", 30000, false},
        {2, "encoder.down_blocks.", 30001, true},
        {2, "encoder.", 50000, false},
        {2, "quant_conv.", 50000, false},
};

static const char *const parts[] = {"text_encoder", "transformer", "vae"};

uint32_t order_of(const char *part, const char *name) {
    uint32_t p = 0;
    while (p < ARRAY_LEN(parts) && !str_eq(part, parts[p]))
        p++;
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        if (rules[i].part != p || !str_starts(name, rules[i].prefix))
            continue;
        uint32_t layer = 0;
        for (const char *c = name + strlen(rules[i].prefix);
                rules[i].numbered && *c >= '0' && *c <= '9' && layer <= ORDER_MAX_LAYER; c++)
            layer = layer * 10 + (uint32_t)(*c - '0');
        return p * ORDER_PART + rules[i].first + MIN(layer, (uint32_t)ORDER_MAX_LAYER);
    }
    return p * ORDER_PART + ORDER_REST;
}
