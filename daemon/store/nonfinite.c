#include "store/nonfinite.h"

/* All exponent bits set: infinity or NaN. The 16-bit loops count in 16-bit lanes, so a block must
 * stay below 65,536 elements. */
enum { BLOCK = 32768 };

static uint64_t count_u16(const uint16_t *x, size_t n, uint16_t exponent) {
    uint64_t total = 0;
    for (size_t at = 0; at < n; at += BLOCK) {
        size_t m = n - at < BLOCK ? n - at : BLOCK;
        uint16_t count = 0;
        for (size_t i = 0; i < m; i++)
            count = (uint16_t)(count + ((x[at + i] & exponent) == exponent));
        total += count;
    }
    return total;
}

static uint64_t count_u32(const uint32_t *x, size_t n) {
    uint64_t total = 0;
    for (size_t at = 0; at < n; at += BLOCK) {
        size_t m = n - at < BLOCK ? n - at : BLOCK;
        uint32_t count = 0;
        for (size_t i = 0; i < m; i++)
            count += (x[at + i] & 0x7f800000) == 0x7f800000;
        total += count;
    }
    return total;
}

static uint64_t count_u64(const uint64_t *x, size_t n) {
    const uint64_t exponent = (uint64_t)0x7ff << 52;
    uint64_t total = 0;
    for (size_t i = 0; i < n; i++)
        total += (x[i] & exponent) == exponent;
    return total;
}

uint64_t nonfinite_count(DType dtype, const void *data, size_t n) {
    switch (dtype) {
    case DTYPE_F32:
        return count_u32(data, n / 4);
    case DTYPE_F16:
        return count_u16(data, n / 2, 0x7c00);
    case DTYPE_BF16:
        return count_u16(data, n / 2, 0x7f80);
    case DTYPE_F64:
        return count_u64(data, n / 8);
    case DTYPE_U8:
    case DTYPE_I32:
    case DTYPE_I64:
    case N_DTYPES:
        break;
    }
    return 0;
}
