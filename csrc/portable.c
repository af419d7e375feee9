/* Plain C: the kernels as they are meant, for any machine. */
#include "elementwise.h"

enum { ROWS = 16, XOR_ROWS = 4 };

static void lut_tables(const int8_t *levels, int64_t units, uint8_t *tables) {
    for (int64_t g = 0; g < 2 * units; g++, levels += 4, tables += 32)
        for (int index = 0; index < 16; index++) {
            int sum = 512;
            for (int j = 0; j < 4; j++) sum += index >> j & 1 ? levels[j] : -levels[j];
            tables[index] = (uint8_t)(sum & 31);
            tables[16 + index] = (uint8_t)(sum >> 5);
        }
}

static void lut(const uint8_t *weights, int64_t weight_stride, const uint8_t *const *tables, int64_t offset, int pixels,
                int64_t segments, int64_t units, int32_t *acc, int64_t stride) {
    for (int p = 0; p < pixels; p++)
        for (int64_t s = 0; s < segments; s++) {
            const uint8_t *table = tables[p * segments + s] + offset;
            const uint8_t *bytes = weights + s * weight_stride;
            for (int64_t i = 0; i < units; i++, table += 64, bytes += ROWS)
                for (int r = 0; r < ROWS; r++) {
                    int first = bytes[r] & 15, second = bytes[r] >> 4;
                    int low = table[first] + table[32 + second], high = table[16 + first] + table[48 + second];
                    acc[p * stride + r] += 32 * high + low - 1024;
                }
        }
}

static int count_bits(uint64_t x) {
    x = x - (x >> 1 & 0x5555555555555555u);
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (int)(x * 0x0101010101010101u >> 56);
}

static void xor_count(const uint64_t *weights, const uint64_t *const *bits, int pixels, int64_t segments, int64_t words,
                      int32_t *acc, int64_t stride) {
    for (int p = 0; p < pixels; p++)
        for (int r = 0; r < XOR_ROWS; r++) {
            int32_t total = 0;
            for (int64_t s = 0; s < segments; s++)
                for (int64_t i = 0; i < words; i++)
                    total += count_bits(weights[(s * words + i) * XOR_ROWS + r] ^ bits[p * segments + s][i]);
            acc[p * stride + r] = total;
        }
}

static void signs(const float *x, int64_t n, uint64_t *bits) {
    for (int64_t i = 0; i < n; i += 64) {
        uint64_t word = 0;
        for (int64_t j = 0; j < 64 && i + j < n; j++) word |= (uint64_t)(x[i + j] >= 0) << j;
        bits[i / 64] = word;
    }
}

const bbn_kernels bbn_portable = {
    .lut = {
        .unit = 8,
        .table_bytes = 64,
        .rows = ROWS,
        .pixels = 1,
        .unit_bytes = ROWS,
        .tables = lut_tables,
        .product = lut,
    },
    .xor_rows = XOR_ROWS,
    .xor_pixels = 1,
    .xor_count = xor_count,
    .signs = signs,
    BBN_ELEMENTWISE,
};
