/* AVX-512.  As training_avx2.c, eight counters to a register. */
#include <immintrin.h>

#include "training_body.h"

enum { LANES = 8, GROUPS = 4 };

static void words(uint64_t seed, uint32_t stream, uint64_t first, uint32_t *out) {
    const __m512i m0 = _mm512_set1_epi64(PHILOX_M0), m1 = _mm512_set1_epi64(PHILOX_M1);
    const __m512i lane = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    const __m512i low = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11), high = _mm512_add_epi64(low, _mm512_set1_epi64(4));
    for (uint64_t c = 0; c < BBN_WORDS / 4; c += LANES * GROUPS) {
        __m512i x[4][GROUPS];
        uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
        for (int g = 0; g < GROUPS; g++) {
            x[0][g] = _mm512_add_epi64(_mm512_set1_epi64((int64_t)(first + c + (uint64_t)(LANES * g))), lane);
            x[1][g] = _mm512_srli_epi64(x[0][g], 32);
            x[2][g] = _mm512_set1_epi64(stream);
            x[3][g] = _mm512_setzero_si512();
        }
#pragma GCC unroll 7
        for (int round = 0; round < PHILOX_ROUNDS; round++, k0 += PHILOX_W0, k1 += PHILOX_W1)
            for (int g = 0; g < GROUPS; g++) {
                __m512i p0 = _mm512_mul_epu32(x[0][g], m0), p1 = _mm512_mul_epu32(x[2][g], m1);
                __m512i key0 = _mm512_set1_epi64(k0), key1 = _mm512_set1_epi64(k1);
                x[0][g] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p1, 32), x[1][g], key0, 0x96); /* a ^ b ^ c */
                x[2][g] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p0, 32), x[3][g], key1, 0x96);
                x[1][g] = p1, x[3][g] = p0;
            }
        for (int g = 0; g < GROUPS; g++, out += 4 * LANES) {
            __m512i a = _mm512_mask_blend_epi32(0xAAAA, x[0][g], _mm512_slli_epi64(x[1][g], 32));
            __m512i b = _mm512_mask_blend_epi32(0xAAAA, x[2][g], _mm512_slli_epi64(x[3][g], 32));
            _mm512_storeu_si512(out, _mm512_permutex2var_epi64(a, low, b));
            _mm512_storeu_si512(out + 16, _mm512_permutex2var_epi64(a, high, b));
        }
    }
}

const bbn_training bbn_training_avx512 = {.words = words, .draw = draw, .update = update};
