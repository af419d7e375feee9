/* AVX-512 with VBMI, BITALG, VPOPCNTDQ and VNNI (Intel Ice Lake, AMD Zen 4, and later). */
#include <immintrin.h>

#include "elementwise.h"

enum { ROWS = 64, PIXELS = 2, XOR_ROWS = 16, XOR_PIXELS = 4 };

/* row 16 v + q of a block is in byte 4 q + (0, 2, 1, 3)[v]: widening by masks and shifts then leaves rows in order */
#define QUADS(j) \
    j, j + 4, j + 8, j + 12, j + 16, j + 20, j + 24, j + 28, j + 32, j + 36, j + 40, j + 44, j + 48, j + 52, j + 56, j + 60
static const uint8_t lanes[ROWS] = {QUADS(0), QUADS(2), QUADS(1), QUADS(3)};

/* The 32 lanes of 16 bits have index bits 0-2 and 4-5; bit 3 tells the two halves apart, which packing interleaves. */
static void lut_tables(const int8_t *levels, int64_t units, uint8_t *tables) {
#define EIGHT(m, k) m(0, k), m(1, k), m(2, k), m(3, k), m(4, k), m(5, k), m(6, k), m(7, k)
#define B01(e, k) 2 * ((e) & 1), 2 * ((e) >> 1 & 1)
#define B23(e, k) 2 * ((e) >> 2 & 1), 0
#define B45(e, k) 2 * ((k) & 1), 2 * ((k) >> 1 & 1)
#define ALL(m) EIGHT(m, 0), EIGHT(m, 1), EIGHT(m, 2), EIGHT(m, 3)
    static const uint8_t twice[3][64] = {{ALL(B01)}, {ALL(B23)}, {ALL(B45)}};
    const __m512i t0 = _mm512_loadu_si512(twice[0]), t1 = _mm512_loadu_si512(twice[1]);
    const __m512i t2 = _mm512_loadu_si512(twice[2]), mask = _mm512_set1_epi16(31);
    for (int64_t i = 0; i < units; i++, levels += 6, tables += 128) {
        int16_t two[3];
        memcpy(two, levels, 6);
        int all = levels[0] + levels[1] + levels[2] + levels[3] + levels[4] + levels[5];
        /* twice the sum of those with bit 1, minus the sum of all */
        __m512i s0 = _mm512_add_epi16(_mm512_maddubs_epi16(t0, _mm512_set1_epi16(two[0])),
                                      _mm512_maddubs_epi16(t1, _mm512_set1_epi16(two[1])));
        s0 = _mm512_add_epi16(s0, _mm512_maddubs_epi16(t2, _mm512_set1_epi16(two[2])));
        s0 = _mm512_add_epi16(s0, _mm512_set1_epi16((int16_t)(768 - all)));
        __m512i s1 = _mm512_add_epi16(s0, _mm512_set1_epi16((int16_t)(2 * levels[3])));
        __m512i low = _mm512_packus_epi16(_mm512_and_si512(s0, mask), _mm512_and_si512(s1, mask));
        __m512i high = _mm512_packus_epi16(_mm512_srli_epi16(s0, 5), _mm512_srli_epi16(s1, 5));
        _mm512_storeu_si512(tables, low);
        _mm512_storeu_si512(tables + 64, high);
    }
}

/* t >> 5 is at most 48: five of them fit in a byte */
static inline __attribute__((always_inline)) void lut_pixels(const uint8_t *weights, int64_t weight_stride,
                                                             const uint8_t *const *tables, int64_t offset,
                                                             const int pixels, int64_t segments, int64_t units,
                                                             int32_t *acc, int64_t stride) {
    /* 16-bit sums of the low and high parts: of odd lanes, and of both, the odd ones 256 times */
    __m512i both[2][PIXELS], odd[2][PIXELS];
#pragma GCC unroll 2
    for (int p = 0; p < pixels; p++)
        both[0][p] = both[1][p] = odd[0][p] = odd[1][p] = _mm512_setzero_si512();
    for (int64_t s = 0; s < segments; s++) {
        const uint8_t *w = weights + s * weight_stride;
        const uint8_t *table[PIXELS];
#pragma GCC unroll 2
        for (int p = 0; p < pixels; p++) table[p] = tables[p * segments + s] + offset;
        for (int64_t begin = 0; begin < units; begin += 5) {
            __m512i sum[2][PIXELS];
#pragma GCC unroll 2
            for (int p = 0; p < pixels; p++) sum[0][p] = sum[1][p] = _mm512_setzero_si512();
#define UNIT(i) do { \
    __m512i index = _mm512_loadu_si512(w + (i) * ROWS); \
    _Pragma("GCC unroll 2") for (int p = 0; p < pixels; p++) { \
        __m512i low = _mm512_loadu_si512(table[p] + 128 * (i)), high = _mm512_loadu_si512(table[p] + 128 * (i) + 64); \
        sum[0][p] = _mm512_add_epi8(sum[0][p], _mm512_permutexvar_epi8(index, low)); \
        sum[1][p] = _mm512_add_epi8(sum[1][p], _mm512_permutexvar_epi8(index, high)); \
    } \
} while (0)
            if (begin + 5 <= units) {
                UNIT(begin);
                UNIT(begin + 1);
                UNIT(begin + 2);
                UNIT(begin + 3);
                UNIT(begin + 4);
            } else {
                for (int64_t i = begin; i < units; i++) UNIT(i);
            }
#pragma GCC unroll 2
            for (int p = 0; p < pixels; p++)
#pragma GCC unroll 2
                for (int h = 0; h < 2; h++) {
                    both[h][p] = _mm512_add_epi16(both[h][p], sum[h][p]);
                    odd[h][p] = _mm512_add_epi16(odd[h][p], _mm512_srli_epi16(sum[h][p], 8));
                }
        }
    }
    const __m512i offset_sum = _mm512_set1_epi32((int)(768 * segments * units)), half = _mm512_set1_epi32(65535);
#pragma GCC unroll 2
    for (int p = 0; p < pixels; p++)
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) {
            __m512i low = odd[0][p], high = odd[1][p];
            if (v < 2) { /* what is left of both fits in 16 bits, whatever overflowed before */
                low = _mm512_sub_epi16(both[0][p], _mm512_slli_epi16(low, 8));
                high = _mm512_sub_epi16(both[1][p], _mm512_slli_epi16(high, 8));
            }
            low = v & 1 ? _mm512_srli_epi32(low, 16) : _mm512_and_si512(low, half);
            high = v & 1 ? _mm512_srli_epi32(high, 16) : _mm512_and_si512(high, half);
            __m512i total = _mm512_sub_epi32(_mm512_add_epi32(_mm512_slli_epi32(high, 5), low), offset_sum);
            int32_t *out = acc + p * stride + 16 * v;
            _mm512_storeu_si512(out, _mm512_add_epi32(total, _mm512_loadu_si512(out)));
        }
}

static void lut(const uint8_t *weights, int64_t weight_stride, const uint8_t *const *tables, int64_t offset, int pixels,
                int64_t segments, int64_t units, int32_t *acc, int64_t stride) {
    if (pixels == 2)
        lut_pixels(weights, weight_stride, tables, offset, 2, segments, units, acc, stride);
    else
        lut_pixels(weights, weight_stride, tables, offset, 1, segments, units, acc, stride);
}

/* ---- int6: 16 activations a unit ---- */

enum { NARROW = 16, NARROW_ROWS = 64, NARROW_PIXELS = 4 };

/* In the 16 bytes of table u: byte n is the sum of levels 4u ... 4u + 3, each with the sign that its bit of n says. */
static void narrow_tables(const int8_t *levels, int64_t units, uint8_t *tables) {
    const __m512i spread = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
    const __m512i zero = _mm512_setzero_si512();
    for (int64_t i = 0; i < units; i++, levels += NARROW, tables += 64) {
        const __m512i all = _mm512_permutexvar_epi32(spread, _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)levels)));
        __m512i sum = _mm512_shuffle_epi8(all, zero);
        sum = _mm512_mask_sub_epi8(sum, 0x5555555555555555, zero, sum);
#define NEXT(k, clear) do { \
    const __m512i level = _mm512_shuffle_epi8(all, _mm512_set1_epi8(k)); \
    sum = _mm512_mask_sub_epi8(_mm512_add_epi8(sum, level), clear, sum, level); \
} while (0)
        NEXT(1, 0x3333333333333333);
        NEXT(2, 0x0f0f0f0f0f0f0f0f);
        NEXT(3, 0x00ff00ff00ff00ff);
        _mm512_storeu_si512(tables, sum);
    }
}

/* the four bytes of a 32-bit lane are one row's four look-ups, and are added to its sum at once */
static inline __attribute__((always_inline)) void narrow_pixels(const uint8_t *weights, int64_t weight_stride,
                                                                const uint8_t *const *tables, int64_t offset,
                                                                const int pixels, int64_t segments, int64_t units,
                                                                int32_t *acc, int64_t stride) {
    __m512i sum[4][NARROW_PIXELS];
    const __m512i ones = _mm512_set1_epi8(1);
#pragma GCC unroll 4
    for (int p = 0; p < pixels; p++)
#pragma GCC unroll 4
        for (int g = 0; g < 4; g++) sum[g][p] = _mm512_loadu_si512(acc + p * stride + 16 * g);
    for (int64_t s = 0; s < segments; s++) {
        const uint8_t *w = weights + s * weight_stride;
        const uint8_t *table[NARROW_PIXELS];
#pragma GCC unroll 4
        for (int p = 0; p < pixels; p++) table[p] = tables[p * segments + s] + offset;
        for (int64_t i = 0; i < units; i++, w += 256) {
            __m512i index[4];
#pragma GCC unroll 4
            for (int g = 0; g < 4; g++) index[g] = _mm512_loadu_si512(w + 64 * g);
#pragma GCC unroll 4
            for (int p = 0; p < pixels; p++) {
                const __m512i found = _mm512_loadu_si512(table[p] + 64 * i);
#pragma GCC unroll 4
                for (int g = 0; g < 4; g++)
                    sum[g][p] = _mm512_dpbusd_epi32(sum[g][p], ones, _mm512_permutexvar_epi8(index[g], found));
            }
        }
    }
#pragma GCC unroll 4
    for (int p = 0; p < pixels; p++)
#pragma GCC unroll 4
        for (int g = 0; g < 4; g++) _mm512_storeu_si512(acc + p * stride + 16 * g, sum[g][p]);
}

static void narrow(const uint8_t *weights, int64_t weight_stride, const uint8_t *const *tables, int64_t offset,
                   int pixels, int64_t segments, int64_t units, int32_t *acc, int64_t stride) {
    switch (pixels) {
    case 4: narrow_pixels(weights, weight_stride, tables, offset, 4, segments, units, acc, stride); break;
    case 3: narrow_pixels(weights, weight_stride, tables, offset, 3, segments, units, acc, stride); break;
    case 2: narrow_pixels(weights, weight_stride, tables, offset, 2, segments, units, acc, stride); break;
    default: narrow_pixels(weights, weight_stride, tables, offset, 1, segments, units, acc, stride);
    }
}

static inline __attribute__((always_inline)) void xor_pixels(const uint64_t *weights, const uint64_t *const *bits,
                                                             const int pixels, int64_t segments, int64_t words,
                                                             int32_t *acc, int64_t stride) {
    __m512i count[2][XOR_PIXELS];
#pragma GCC unroll 4
    for (int p = 0; p < pixels; p++) count[0][p] = count[1][p] = _mm512_setzero_si512();
    for (int64_t s = 0; s < segments; s++) {
        const uint64_t *x[XOR_PIXELS];
#pragma GCC unroll 4
        for (int p = 0; p < pixels; p++) x[p] = bits[p * segments + s];
        for (int64_t i = 0; i < words; i++, weights += XOR_ROWS) {
            __m512i w0 = _mm512_loadu_si512(weights), w1 = _mm512_loadu_si512(weights + 8);
#pragma GCC unroll 4
            for (int p = 0; p < pixels; p++) {
                __m512i v = _mm512_set1_epi64((long long)x[p][i]);
                count[0][p] = _mm512_add_epi64(count[0][p], _mm512_popcnt_epi64(_mm512_xor_si512(v, w0)));
                count[1][p] = _mm512_add_epi64(count[1][p], _mm512_popcnt_epi64(_mm512_xor_si512(v, w1)));
            }
        }
    }
    for (int p = 0; p < pixels; p++)
        for (int h = 0; h < 2; h++)
            _mm256_storeu_si256((__m256i *)(acc + p * stride + 8 * h), _mm512_cvtepi64_epi32(count[h][p]));
}

static void xor_count(const uint64_t *weights, const uint64_t *const *bits, int pixels, int64_t segments, int64_t words,
                      int32_t *acc, int64_t stride) {
    switch (pixels) {
    case 4: xor_pixels(weights, bits, 4, segments, words, acc, stride); break;
    case 3: xor_pixels(weights, bits, 3, segments, words, acc, stride); break;
    case 2: xor_pixels(weights, bits, 2, segments, words, acc, stride); break;
    default: xor_pixels(weights, bits, 1, segments, words, acc, stride);
    }
}

static void signs(const float *x, int64_t n, uint64_t *bits) {
    for (int64_t i = 0; i < n; i += 64) {
        uint64_t word = 0;
        for (int64_t j = 0; j < 64 && i + j < n; j += 16) {
            int64_t left = n - i - j;
            __mmask16 valid = left < 16 ? (__mmask16)((1u << left) - 1) : (__mmask16)0xffff;
            __m512 v = _mm512_maskz_loadu_ps(valid, x + i + j);
            word |= (uint64_t)_mm512_mask_cmp_ps_mask(valid, v, _mm512_setzero_ps(), _CMP_GE_OQ) << j;
        }
        bits[i / 64] = word;
    }
}

const bbn_kernels bbn_avx512 = {
    .lut = {
        .unit = 6,
        .table_bytes = 128,
        .rows = ROWS,
        .pixels = PIXELS,
        .unit_bytes = ROWS,
        .lane = lanes,
        .tables = lut_tables,
        .product = lut,
    },
    .narrow = {
        .unit = NARROW,
        .table_bytes = 64,
        .rows = NARROW_ROWS,
        .pixels = NARROW_PIXELS,
        .unit_bytes = 256,
        .tables = narrow_tables,
        .product = narrow,
    },
    .xor_rows = XOR_ROWS,
    .xor_pixels = XOR_PIXELS,
    .xor_count = xor_count,
    .signs = signs,
    BBN_ELEMENTWISE,
};
