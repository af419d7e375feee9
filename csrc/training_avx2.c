/* AVX2.  Four counters to a register, 64 bits for each word: the multiplication reads the lower halves only, so what it
 * leaves in the upper ones need not be cleared. */
#include <immintrin.h>

#include "training_body.h"

enum { LANES = 4, GROUPS = 2 }; /* two groups hide the latency of the multiplications */

static void words(uint64_t seed, uint32_t stream, uint64_t first, uint32_t *out) {
    const __m256i m0 = _mm256_set1_epi64x(PHILOX_M0), m1 = _mm256_set1_epi64x(PHILOX_M1);
    for (uint64_t c = 0; c < BBN_WORDS / 4; c += LANES * GROUPS) {
        __m256i x[4][GROUPS];
        uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
        for (int g = 0; g < GROUPS; g++) {
            __m256i lane = _mm256_setr_epi64x(0, 1, 2, 3);
            x[0][g] = _mm256_add_epi64(_mm256_set1_epi64x((int64_t)(first + c + (uint64_t)(LANES * g))), lane);
            x[1][g] = _mm256_srli_epi64(x[0][g], 32);
            x[2][g] = _mm256_set1_epi64x(stream);
            x[3][g] = _mm256_setzero_si256();
        }
#pragma GCC unroll 7
        for (int round = 0; round < PHILOX_ROUNDS; round++, k0 += PHILOX_W0, k1 += PHILOX_W1)
            for (int g = 0; g < GROUPS; g++) {
                __m256i p0 = _mm256_mul_epu32(x[0][g], m0), p1 = _mm256_mul_epu32(x[2][g], m1);
                __m256i key0 = _mm256_set1_epi64x(k0), key1 = _mm256_set1_epi64x(k1);
                x[0][g] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p1, 32), x[1][g]), key0);
                x[2][g] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p0, 32), x[3][g]), key1);
                x[1][g] = p1, x[3][g] = p0;
            }
        for (int g = 0; g < GROUPS; g++, out += 4 * LANES) {
            __m256i a = _mm256_blend_epi32(x[0][g], _mm256_slli_epi64(x[1][g], 32), 0xAA);
            __m256i b = _mm256_blend_epi32(x[2][g], _mm256_slli_epi64(x[3][g], 32), 0xAA);
            __m256i even = _mm256_unpacklo_epi64(a, b), odd = _mm256_unpackhi_epi64(a, b);
            _mm256_storeu_si256((__m256i *)out, _mm256_permute2x128_si256(even, odd, 0x20));
            _mm256_storeu_si256((__m256i *)(out + 8), _mm256_permute2x128_si256(even, odd, 0x31));
        }
    }
}

const bbn_training bbn_training_avx2 = {.words = words, .draw = draw, .update = update};
