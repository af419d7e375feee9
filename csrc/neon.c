/* NEON, on every 64-bit ARM. */
#include <arm_neon.h>

#include "elementwise.h"

enum { ROWS = 16, PIXELS = 4, XOR_ROWS = 4, XOR_PIXELS = 4 };

static void lut_tables(const int8_t *levels, int64_t units, uint8_t *tables) {
    static const int8_t sign[4][16] = {
        {-1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1},
        {-1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1},
        {-1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1},
        {-1, -1, -1, -1, -1, -1, -1, -1, 1, 1, 1, 1, 1, 1, 1, 1},
    };
    int8x16_t s[4];
    for (int j = 0; j < 4; j++) s[j] = vld1q_s8(sign[j]);
    for (int64_t g = 0; g < 2 * units; g++, levels += 4, tables += 32) {
        int16x8_t low = vdupq_n_s16(512), high = low;
        for (int j = 0; j < 4; j++) {
            int8x8_t x = vdup_n_s8(levels[j]);
            low = vmlal_s8(low, vget_low_s8(s[j]), x);
            high = vmlal_s8(high, vget_high_s8(s[j]), x);
        }
        uint16x8_t a = vreinterpretq_u16_s16(low), b = vreinterpretq_u16_s16(high);
        uint8x16_t all = vcombine_u8(vmovn_u16(a), vmovn_u16(b));
        vst1q_u8(tables, vandq_u8(all, vdupq_n_u8(31)));
        vst1q_u8(tables + 16, vcombine_u8(vshrn_n_u16(a, 5), vshrn_n_u16(b, 5)));
    }
}

static inline __attribute__((always_inline)) void lut_pixels(const uint8_t *weights, int64_t weight_stride,
                                                             const uint8_t *const *tables, int64_t offset,
                                                             const int pixels, int64_t segments, int64_t units,
                                                             int32_t *acc, int64_t stride) {
    uint16x8_t wide[2][2][PIXELS]; /* 16-bit sums: low and high halves, rows 0-7 and 8-15 */
#pragma GCC unroll 4
    for (int p = 0; p < pixels; p++)
        for (int h = 0; h < 4; h++) wide[h / 2][h % 2][p] = vdupq_n_u16(0);
    for (int64_t s = 0; s < segments; s++) {
        const uint8_t *w = weights + s * weight_stride;
        for (int64_t begin = 0; begin < units; begin += 4) {
            int64_t end = begin + 4 < units ? begin + 4 : units;
            uint8x16_t sum[2][PIXELS];
#pragma GCC unroll 4
            for (int p = 0; p < pixels; p++) sum[0][p] = sum[1][p] = vdupq_n_u8(0);
            for (int64_t i = begin; i < end; i++) {
                uint8x16_t both = vld1q_u8(w + i * ROWS);
                uint8x16_t first = vandq_u8(both, vdupq_n_u8(15)), second = vshrq_n_u8(both, 4);
#pragma GCC unroll 4
                for (int p = 0; p < pixels; p++) {
                    const uint8_t *t = tables[p * segments + s] + offset + 64 * i;
                    sum[0][p] = vaddq_u8(sum[0][p], vqtbl1q_u8(vld1q_u8(t), first));
                    sum[1][p] = vaddq_u8(sum[1][p], vqtbl1q_u8(vld1q_u8(t + 16), first));
                    sum[0][p] = vaddq_u8(sum[0][p], vqtbl1q_u8(vld1q_u8(t + 32), second));
                    sum[1][p] = vaddq_u8(sum[1][p], vqtbl1q_u8(vld1q_u8(t + 48), second));
                }
            }
#pragma GCC unroll 4
            for (int p = 0; p < pixels; p++)
                for (int h = 0; h < 2; h++) {
                    wide[h][0][p] = vaddw_u8(wide[h][0][p], vget_low_u8(sum[h][p]));
                    wide[h][1][p] = vaddw_u8(wide[h][1][p], vget_high_u8(sum[h][p]));
                }
        }
    }
    const int32x4_t offset_sum = vdupq_n_s32((int32_t)(1024 * segments * units));
    for (int p = 0; p < pixels; p++)
        for (int k = 0; k < 4; k++) {
            uint16x8_t low = wide[0][k / 2][p], high = wide[1][k / 2][p];
            uint16x4_t l = k % 2 ? vget_high_u16(low) : vget_low_u16(low);
            uint16x4_t h = k % 2 ? vget_high_u16(high) : vget_low_u16(high);
            int32x4_t total = vreinterpretq_s32_u32(vaddq_u32(vshlq_n_u32(vmovl_u16(h), 5), vmovl_u16(l)));
            int32_t *out = acc + p * stride + 4 * k;
            vst1q_s32(out, vaddq_s32(vld1q_s32(out), vsubq_s32(total, offset_sum)));
        }
}

static void lut(const uint8_t *weights, int64_t weight_stride, const uint8_t *const *tables, int64_t offset, int pixels,
                int64_t segments, int64_t units, int32_t *acc, int64_t stride) {
    switch (pixels) {
    case 4: lut_pixels(weights, weight_stride, tables, offset, 4, segments, units, acc, stride); break;
    case 3: lut_pixels(weights, weight_stride, tables, offset, 3, segments, units, acc, stride); break;
    case 2: lut_pixels(weights, weight_stride, tables, offset, 2, segments, units, acc, stride); break;
    default: lut_pixels(weights, weight_stride, tables, offset, 1, segments, units, acc, stride);
    }
}

/* bits per byte by vcnt, summed pairwise in 16 bits for up to 2048 words, then in 32 */
static void xor_count(const uint64_t *weights, const uint64_t *const *bits, int pixels, int64_t segments, int64_t words,
                      int32_t *acc, int64_t stride) {
    for (int p = 0; p < pixels; p++) {
        const uint64_t *w = weights;
        uint64x2_t count[2] = {vdupq_n_u64(0), vdupq_n_u64(0)};
        for (int64_t s = 0; s < segments; s++)
            for (int64_t begin = 0; begin < words; begin += 2048) {
                int64_t end = begin + 2048 < words ? begin + 2048 : words;
                uint16x8_t sum[2] = {vdupq_n_u16(0), vdupq_n_u16(0)};
                for (int64_t i = begin; i < end; i++, w += XOR_ROWS) {
                    uint64x2_t x = vdupq_n_u64(bits[p * segments + s][i]);
                    for (int h = 0; h < 2; h++) {
                        uint8x16_t d = vreinterpretq_u8_u64(veorq_u64(x, vld1q_u64(w + 2 * h)));
                        sum[h] = vpadalq_u8(sum[h], vcntq_u8(d));
                    }
                }
                for (int h = 0; h < 2; h++) count[h] = vpadalq_u32(count[h], vpaddlq_u16(sum[h]));
            }
        for (int h = 0; h < 2; h++)
            vst1_s32(acc + p * stride + 2 * h, vreinterpret_s32_u32(vmovn_u64(count[h])));
    }
}

static void signs(const float *x, int64_t n, uint64_t *bits) {
    for (int64_t i = 0; i < n; i += 64) {
        uint64_t word = 0;
        for (int64_t j = 0; j < 64 && i + j < n; j++) word |= (uint64_t)(x[i + j] >= 0) << j;
        bits[i / 64] = word;
    }
}

const bbn_kernels bbn_neon = {
    .lut = {
        .unit = 8,
        .table_bytes = 64,
        .rows = ROWS,
        .pixels = PIXELS,
        .unit_bytes = ROWS,
        .tables = lut_tables,
        .product = lut,
    },
    .xor_rows = XOR_ROWS,
    .xor_pixels = XOR_PIXELS,
    .xor_count = xor_count,
    .signs = signs,
    BBN_ELEMENTWISE,
};
