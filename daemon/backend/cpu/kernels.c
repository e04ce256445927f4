#include "backend/cpu/kernels.h"

#ifdef PREHEAT_X86_KERNELS

#include <cpuid.h>

/* clang 14 does not know "f16c". */
static bool has_f16c(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

/* The compiler's runtime asks both CPUID and which registers the system saves. */
static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

const Kernels *kernels_find(Isa isa) {
    if ((isa == ISA_BEST || isa == ISA_AVX512) && has_avx512())
        return &kernels_avx512;
    if ((isa == ISA_BEST || isa == ISA_AVX2) && has_avx2())
        return &kernels_avx2;
    return isa == ISA_BEST || isa == ISA_PORTABLE ? &kernels_portable : NULL;
}

#else

const Kernels *kernels_find(Isa isa) {
    return isa == ISA_BEST || isa == ISA_PORTABLE ? &kernels_portable : NULL;
}

#endif
