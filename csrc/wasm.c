/* WebAssembly with 128-bit SIMD: every browser since 2023. */
#include <wasm_simd128.h>

#include "elementwise.h"

#if defined(__wasm_relaxed_simd__)
#define LOOK_UP wasm_i8x16_relaxed_swizzle /* the indices are below 16, so that it is the same and cheaper */
#else
#define LOOK_UP wasm_i8x16_swizzle
#endif

enum { ROWS = 32, PIXELS = 2, XOR_ROWS = 4, XOR_PIXELS = 2 };

static void lut_tables(const int8_t *levels, int64_t units, uint8_t *tables) {
    const v128_t one = wasm_i16x8_make(-1, 1, -1, 1, -1, 1, -1, 1), two = wasm_i16x8_make(-1, -1, 1, 1, -1, -1, 1, 1);
    const v128_t four = wasm_i16x8_make(-1, -1, -1, -1, 1, 1, 1, 1), offset = wasm_i16x8_const_splat(512);
    for (int64_t g = 0; g < 2 * units; g++, levels += 4, tables += 32) {
        v128_t three = wasm_i16x8_add(wasm_i16x8_mul(one, wasm_i16x8_splat(levels[0])),
                                      wasm_i16x8_mul(two, wasm_i16x8_splat(levels[1])));
        three = wasm_i16x8_add(three, wasm_i16x8_mul(four, wasm_i16x8_splat(levels[2])));
        three = wasm_i16x8_add(three, offset);
        const v128_t last = wasm_i16x8_splat(levels[3]);
        const v128_t minus = wasm_i16x8_sub(three, last), plus = wasm_i16x8_add(three, last);
        const v128_t mask = wasm_i16x8_const_splat(31);
        wasm_v128_store(tables, wasm_u8x16_narrow_i16x8(wasm_v128_and(minus, mask), wasm_v128_and(plus, mask)));
        wasm_v128_store(tables + 16, wasm_u8x16_narrow_i16x8(wasm_u16x8_shr(minus, 5), wasm_u16x8_shr(plus, 5)));
    }
}

static inline __attribute__((always_inline)) void lut_pixels(const uint8_t *weights, int64_t weight_stride,
                                                             const uint8_t *const *tables, int64_t offset,
                                                             const int pixels, int64_t segments, int64_t units,
                                                             int32_t *acc, int64_t stride) {
    const v128_t nibble = wasm_i8x16_const_splat(15);
    v128_t wide[2][4][PIXELS]; /* 16-bit sums of the low and high halves, of eight rows each */
    for (int p = 0; p < pixels; p++)
        for (int i = 0; i < 8; i++) wide[i / 4][i % 4][p] = wasm_i16x8_const_splat(0);
    for (int64_t s = 0; s < segments; s++) {
        const uint8_t *w = weights + s * weight_stride;
        const uint8_t *table[PIXELS];
        for (int p = 0; p < pixels; p++) table[p] = tables[p * segments + s] + offset;
        for (int32_t left = (int32_t)units; left > 0; left -= 4) {
            const int32_t count = left < 4 ? left : 4;
            v128_t sum[2][2][PIXELS]; /* 8-bit sums of the low and high halves, of sixteen rows each */
            for (int p = 0; p < pixels; p++)
                for (int i = 0; i < 4; i++) sum[i / 2][i % 2][p] = wasm_i8x16_const_splat(0);
            for (int32_t i = 0; i < count; i++, w += ROWS) {
                const v128_t both[2] = {wasm_v128_load(w), wasm_v128_load(w + 16)};
                for (int p = 0; p < pixels; p++, table[p - 1] += 64)
                    for (int k = 0; k < 4; k++) { /* the first nibble's table, low and high half; the second's */
                        const v128_t t = wasm_v128_load(table[p] + 16 * k);
                        for (int v = 0; v < 2; v++) {
                            v128_t index = k < 2 ? wasm_v128_and(both[v], nibble) : wasm_u8x16_shr(both[v], 4);
                            sum[k % 2][v][p] = wasm_i8x16_add(sum[k % 2][v][p], LOOK_UP(t, index));
                        }
                    }
            }
            for (int p = 0; p < pixels; p++)
                for (int h = 0; h < 2; h++)
                    for (int v = 0; v < 2; v++) {
                        v128_t *to = wide[h][2 * v];
                        to[p] = wasm_i16x8_add(to[p], wasm_u16x8_extend_low_u8x16(sum[h][v][p]));
                        to += PIXELS;
                        to[p] = wasm_i16x8_add(to[p], wasm_u16x8_extend_high_u8x16(sum[h][v][p]));
                    }
        }
    }
    const v128_t offset_sum = wasm_i32x4_splat((int32_t)(1024 * segments * units));
    for (int p = 0; p < pixels; p++)
        for (int i = 0; i < 8; i++) {
            v128_t low = wide[0][i / 2][p], high = wide[1][i / 2][p];
            low = i % 2 ? wasm_u32x4_extend_high_u16x8(low) : wasm_u32x4_extend_low_u16x8(low);
            high = i % 2 ? wasm_u32x4_extend_high_u16x8(high) : wasm_u32x4_extend_low_u16x8(high);
            v128_t total = wasm_i32x4_sub(wasm_i32x4_add(wasm_i32x4_shl(high, 5), low), offset_sum);
            int32_t *out = acc + p * stride + 4 * i;
            wasm_v128_store(out, wasm_i32x4_add(total, wasm_v128_load(out)));
        }
}

static void lut(const uint8_t *weights, int64_t weight_stride, const uint8_t *const *tables, int64_t offset, int pixels,
                int64_t segments, int64_t units, int32_t *acc, int64_t stride) {
    if (pixels == 2)
        lut_pixels(weights, weight_stride, tables, offset, 2, segments, units, acc, stride);
    else
        lut_pixels(weights, weight_stride, tables, offset, 1, segments, units, acc, stride);
}

static void xor_count(const uint64_t *weights, const uint64_t *const *bits, int pixels, int64_t segments, int64_t words,
                      int32_t *acc, int64_t stride) {
    for (int p = 0; p < pixels; p++) {
        const uint64_t *w = weights;
        v128_t count[2] = {wasm_i64x2_const_splat(0), wasm_i64x2_const_splat(0)}; /* of two rows each, as 32-bit pairs */
        for (int64_t s = 0; s < segments; s++)
            for (int64_t i = 0; i < words; i++, w += XOR_ROWS) {
                const v128_t x = wasm_v128_load64_splat(&bits[p * segments + s][i]);
                for (int h = 0; h < 2; h++) {
                    v128_t d = wasm_i8x16_popcnt(wasm_v128_xor(x, wasm_v128_load(w + 2 * h)));
                    d = wasm_u32x4_extadd_pairwise_u16x8(wasm_u16x8_extadd_pairwise_u8x16(d));
                    count[h] = wasm_i32x4_add(count[h], d);
                }
            }
        const v128_t even = wasm_i32x4_shuffle(count[0], count[1], 0, 2, 4, 6);
        const v128_t odd = wasm_i32x4_shuffle(count[0], count[1], 1, 3, 5, 7);
        wasm_v128_store(acc + p * stride, wasm_i32x4_add(even, odd));
    }
}

static void signs(const float *x, int64_t n, uint64_t *bits) {
    for (int64_t i = 0; i < n; i += 64) {
        uint64_t word = 0;
        int64_t j = 0;
        for (; j < 64 && i + j + 4 <= n; j += 4) {
            v128_t positive = wasm_f32x4_ge(wasm_v128_load(x + i + j), wasm_f32x4_const_splat(0));
            word |= (uint64_t)wasm_i32x4_bitmask(positive) << j;
        }
        for (; j < 64 && i + j < n; j++) word |= (uint64_t)(x[i + j] >= 0) << j;
        bits[i / 64] = word;
    }
}

const bbn_kernels bbn_wasm = {
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
