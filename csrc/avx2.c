/* AVX2 (Intel Haswell, AMD Zen, and later). */
#include <immintrin.h>

#include "elementwise.h"

enum { ROWS = 32, PIXELS = 2, XOR_ROWS = 8, XOR_PIXELS = 2 };

/* row 8 v + q of a block is in byte 4 q + (0, 2, 1, 3)[v]: widening by masks and shifts then leaves rows in order */
static const uint8_t lanes[ROWS] = {0, 4, 8,  12, 16, 20, 24, 28, 2, 6, 10, 14, 18, 22, 26, 30,
                                    1, 5, 9,  13, 17, 21, 25, 29, 3, 7, 11, 15, 19, 23, 27, 31};

static void lut_tables(const int8_t *levels, int64_t units, uint8_t *tables) {
#define LANES(m) m(0), m(1), m(2), m(3), m(4), m(5), m(6), m(7), m(8), m(9), m(10), m(11), m(12), m(13), m(14), m(15)
#define P0(i) ((i) & 1), ((i) >> 1 & 1)
#define P1(i) ((i) >> 2 & 1), ((i) >> 3 & 1)
    static const uint8_t plus[2][32] = {{LANES(P0)}, {LANES(P1)}};
    const __m256i one = _mm256_set1_epi8(1), offset = _mm256_set1_epi16(512), mask = _mm256_set1_epi16(31);
    const __m256i plus0 = _mm256_loadu_si256((const __m256i *)plus[0]);
    const __m256i plus1 = _mm256_loadu_si256((const __m256i *)plus[1]);
    const __m256i minus0 = _mm256_xor_si256(plus0, one), minus1 = _mm256_xor_si256(plus1, one);
    for (int64_t g = 0; g < 2 * units; g++, levels += 4, tables += 32) {
        int16_t two[2];
        memcpy(two, levels, 4);
        __m256i x0 = _mm256_set1_epi16(two[0]), x1 = _mm256_set1_epi16(two[1]);
        __m256i sum = _mm256_add_epi16(_mm256_maddubs_epi16(plus0, x0), _mm256_maddubs_epi16(plus1, x1));
        __m256i rest = _mm256_add_epi16(_mm256_maddubs_epi16(minus0, x0), _mm256_maddubs_epi16(minus1, x1));
        sum = _mm256_add_epi16(_mm256_sub_epi16(sum, rest), offset);
        __m256i both = _mm256_packus_epi16(_mm256_and_si256(sum, mask), _mm256_srli_epi16(sum, 5));
        _mm256_storeu_si256((__m256i *)tables, _mm256_permute4x64_epi64(both, 0xd8));
    }
}

static inline __attribute__((always_inline)) void lut_pixels(const uint8_t *weights, int64_t weight_stride,
                                                             const uint8_t *const *tables, int64_t offset,
                                                             const int pixels, int64_t segments, int64_t units,
                                                             int32_t *acc, int64_t stride) {
    const __m256i bytes = _mm256_set1_epi16(255), nibble = _mm256_set1_epi8(15);
    __m256i even[2][PIXELS], odd[2][PIXELS]; /* 16-bit sums of the low and high halves, of even and odd rows */
#pragma GCC unroll 2
    for (int p = 0; p < pixels; p++)
        even[0][p] = even[1][p] = odd[0][p] = odd[1][p] = _mm256_setzero_si256();
    for (int64_t s = 0; s < segments; s++) {
        const uint8_t *w = weights + s * weight_stride;
        const uint8_t *table[PIXELS];
#pragma GCC unroll 2
        for (int p = 0; p < pixels; p++) table[p] = tables[p * segments + s] + offset;
        for (int64_t begin = 0; begin < units; begin += 4) {
            int64_t end = begin + 4 < units ? begin + 4 : units;
            __m256i sum[2][PIXELS];
#pragma GCC unroll 2
            for (int p = 0; p < pixels; p++) sum[0][p] = sum[1][p] = _mm256_setzero_si256();
            for (int64_t i = begin; i < end; i++) {
                __m256i both = _mm256_loadu_si256((const __m256i *)(w + i * ROWS));
                __m256i first = _mm256_and_si256(both, nibble);
                __m256i second = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble);
#pragma GCC unroll 2
                for (int p = 0; p < pixels; p++) {
                    const __m128i *t = (const __m128i *)(table[p] + 64 * i);
#define TABLE(k) _mm256_broadcastsi128_si256(_mm_loadu_si128(t + (k)))
                    sum[0][p] = _mm256_add_epi8(sum[0][p], _mm256_shuffle_epi8(TABLE(0), first));
                    sum[1][p] = _mm256_add_epi8(sum[1][p], _mm256_shuffle_epi8(TABLE(1), first));
                    sum[0][p] = _mm256_add_epi8(sum[0][p], _mm256_shuffle_epi8(TABLE(2), second));
                    sum[1][p] = _mm256_add_epi8(sum[1][p], _mm256_shuffle_epi8(TABLE(3), second));
                }
            }
#pragma GCC unroll 2
            for (int p = 0; p < pixels; p++)
                for (int h = 0; h < 2; h++) {
                    even[h][p] = _mm256_add_epi16(even[h][p], _mm256_and_si256(sum[h][p], bytes));
                    odd[h][p] = _mm256_add_epi16(odd[h][p], _mm256_srli_epi16(sum[h][p], 8));
                }
        }
    }
    const __m256i offset_sum = _mm256_set1_epi32((int)(1024 * segments * units)), half = _mm256_set1_epi32(65535);
#pragma GCC unroll 2
    for (int p = 0; p < pixels; p++)
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) {
            __m256i low = v < 2 ? even[0][p] : odd[0][p], high = v < 2 ? even[1][p] : odd[1][p];
            low = v & 1 ? _mm256_srli_epi32(low, 16) : _mm256_and_si256(low, half);
            high = v & 1 ? _mm256_srli_epi32(high, 16) : _mm256_and_si256(high, half);
            __m256i total = _mm256_sub_epi32(_mm256_add_epi32(_mm256_slli_epi32(high, 5), low), offset_sum);
            __m256i *out = (__m256i *)(acc + p * stride + 8 * v);
            _mm256_storeu_si256(out, _mm256_add_epi32(total, _mm256_loadu_si256(out)));
        }
}

static void lut(const uint8_t *weights, int64_t weight_stride, const uint8_t *const *tables, int64_t offset, int pixels,
                int64_t segments, int64_t units, int32_t *acc, int64_t stride) {
    if (pixels == 2)
        lut_pixels(weights, weight_stride, tables, offset, 2, segments, units, acc, stride);
    else
        lut_pixels(weights, weight_stride, tables, offset, 1, segments, units, acc, stride);
}

/* bits per nibble by pshufb, summed in bytes for up to 31 words, then in 64 bits */
static inline __attribute__((always_inline)) void xor_pixels(const uint64_t *weights, const uint64_t *const *bits,
                                                             const int pixels, int64_t segments, int64_t words,
                                                             int32_t *acc, int64_t stride) {
    const __m256i nibble = _mm256_set1_epi8(15), zero = _mm256_setzero_si256();
    const __m256i table = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    __m256i count[2][XOR_PIXELS];
#pragma GCC unroll 2
    for (int p = 0; p < pixels; p++) count[0][p] = count[1][p] = zero;
    for (int64_t s = 0; s < segments; s++)
        for (int64_t begin = 0; begin < words; begin += 31) {
            int64_t end = begin + 31 < words ? begin + 31 : words;
            __m256i sum[2][XOR_PIXELS];
#pragma GCC unroll 2
            for (int p = 0; p < pixels; p++) sum[0][p] = sum[1][p] = zero;
            for (int64_t i = begin; i < end; i++, weights += XOR_ROWS)
#pragma GCC unroll 2
                for (int h = 0; h < 2; h++) {
                    __m256i w = _mm256_loadu_si256((const __m256i *)(weights + 4 * h));
#pragma GCC unroll 2
                    for (int p = 0; p < pixels; p++) {
                        __m256i d = _mm256_xor_si256(w, _mm256_set1_epi64x((long long)bits[p * segments + s][i]));
                        __m256i low = _mm256_shuffle_epi8(table, _mm256_and_si256(d, nibble));
                        d = _mm256_and_si256(_mm256_srli_epi16(d, 4), nibble);
                        sum[h][p] = _mm256_add_epi8(sum[h][p], _mm256_add_epi8(low, _mm256_shuffle_epi8(table, d)));
                    }
                }
#pragma GCC unroll 2
            for (int p = 0; p < pixels; p++)
                for (int h = 0; h < 2; h++)
                    count[h][p] = _mm256_add_epi64(count[h][p], _mm256_sad_epu8(sum[h][p], zero));
        }
    for (int p = 0; p < pixels; p++)
        for (int h = 0; h < 2; h++) {
            int64_t four[4];
            _mm256_storeu_si256((__m256i *)four, count[h][p]);
            for (int j = 0; j < 4; j++) acc[p * stride + 4 * h + j] = (int32_t)four[j];
        }
}

static void xor_count(const uint64_t *weights, const uint64_t *const *bits, int pixels, int64_t segments, int64_t words,
                      int32_t *acc, int64_t stride) {
    if (pixels == 2)
        xor_pixels(weights, bits, 2, segments, words, acc, stride);
    else
        xor_pixels(weights, bits, 1, segments, words, acc, stride);
}

static void signs(const float *x, int64_t n, uint64_t *bits) {
    for (int64_t i = 0; i < n; i += 64) {
        uint64_t word = 0;
        int64_t j = 0;
        for (; j < 64 && i + j + 8 <= n; j += 8) {
            __m256 positive = _mm256_cmp_ps(_mm256_loadu_ps(x + i + j), _mm256_setzero_ps(), _CMP_GE_OQ);
            word |= (uint64_t)(unsigned)_mm256_movemask_ps(positive) << j;
        }
        for (; j < 64 && i + j < n; j++) word |= (uint64_t)(x[i + j] >= 0) << j;
        bits[i / 64] = word;
    }
}

const bbn_kernels bbn_avx2 = {
    .lut = {
        .unit = 8,
        .table_bytes = 64,
        .rows = ROWS,
        .pixels = PIXELS,
        .unit_bytes = ROWS,
        .lane = lanes,
        .tables = lut_tables,
        .product = lut,
    },
    .xor_rows = XOR_ROWS,
    .xor_pixels = XOR_PIXELS,
    .xor_count = xor_count,
    .signs = signs,
    BBN_ELEMENTWISE,
};
