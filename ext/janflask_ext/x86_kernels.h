/* What the kernels for x86-64 have in common: the processors they are for, and random blocks to check them with. */
#ifndef JANFLASK_X86_KERNELS_H
#define JANFLASK_X86_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))
#define AVX2 "avx2,fma,f16c"
#define VNNI "avx2,fma,f16c,avx512f,avx512vl,avx512vnni"

INLINE bool jf_has_avx2(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

INLINE bool jf_has_vnni(void) {
    return jf_has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

INLINE uint32_t jf_next(uint32_t *state) { return (*state = *state * 1664525u + 1013904223u) >> 8; }

/* A half float between 2**-15 and 1 in size. */
INLINE uint16_t jf_half(uint32_t *state) { return (uint16_t)(jf_next(state) % 0x3c00 | (jf_next(state) & 1) << 15); }

#endif
