/* The contract of the kernels: one table of functions for each instruction set, all with the same results bit for bit.
 *
 * Look-up product (±1 weights times int8).  A few activations have few signed sums s: 16 of four, 64 of six.  A table
 * holds t = s + offset >= 0 of each in two bytes, t & 31 and t >> 5, so that sums run several tables long in 8 bits,
 * then in 16, then in 32.  A byte of the weights, the index into tables, goes with one unit of activations:
 *   `lut_unit` 8: two tables of four activations; [low 16][high 16][low 16][high 16], indexed by the two nibbles
 *   `lut_unit` 6: one table of six activations; [low 64][high 64]
 *
 * Rows (output channels) come in blocks of `lut_rows` or `xor_rows`; weights are stored block by block:
 *   look-up:  [block][segment][unit][lane] bytes         sign:  [block][segment][word][row] 64-bit words
 * (a look-up kernel may want row r of a block in another lane: `lut_lane[r]`, NULL for lane r)
 * A segment is a run of inputs that lie together in memory: a tap of a convolution, or a whole row of a linear layer.
 */
#ifndef BBN_KERNELS_H
#define BBN_KERNELS_H

#include <stdint.h>

enum { BBN_MAX_PIXELS = 4, BBN_MAX_ROWS = 64, BBN_LUT_UNITS = 1024, BBN_REAL_ROWS = 16 };

typedef struct {
    const int32_t *correction; /* (rows), multiplied by `zero` and subtracted; NULL: none */
    const float *scale, *shift;
    float step, low, high;
    int32_t zero;
} bbn_epilogue;

typedef struct bbn_kernels {
    int lut_unit, lut_table_bytes; /* activations in a unit, bytes of its tables */
    int lut_rows, lut_pixels, xor_rows, xor_pixels;
    const uint8_t *lut_lane;

    /* tables of `units` units from lut_unit * units levels */
    void (*lut_tables)(const int8_t *levels, int64_t units, uint8_t *tables);
    /* acc[p * stride + r] += sum over segments of w_r * x_p, at most BBN_LUT_UNITS units in all; the pixels' segments
     * begin `offset` bytes into tables[p * segments + i], those of the weights `weight_stride` bytes apart */
    void (*lut)(const uint8_t *weights, int64_t weight_stride, const uint8_t *const *tables, int64_t offset, int pixels,
                int64_t segments, int64_t units, int32_t *acc, int64_t stride);
    /* acc[p * stride + r] = number of bits in which weights and pixel differ */
    void (*xor_count)(const uint64_t *weights, const uint64_t *const *bits, int pixels, int64_t segments, int64_t words,
                      int32_t *acc, int64_t stride);
    /* acc[p * stride + r] = sum over segments and channels, in this order, of w * x in float32;
     * weights [segment][channel][BBN_REAL_ROWS] */
    void (*real)(const float *weights, const float *const *x, int pixels, int64_t segments, int64_t channels, float *acc,
                 int64_t stride);

    void (*range)(const float *x, int64_t n, float *low, float *high); /* widens [*low, *high] to hold all x */
    /* level = round(clip(x * inverse, least, most)) + zero; the second form splits it in 256 * high + low */
    void (*quantize8)(const float *x, int64_t n, float inverse, float least, float most, int32_t zero, int8_t *q);
    void (*quantize16)(const float *x, int64_t n, float inverse, float least, float most, int32_t zero, int8_t *high,
                       int8_t *low);
    void (*signs)(const float *x, int64_t n, uint64_t *bits); /* bit = x >= 0, zero padding */
    void (*finish)(const int32_t *acc, int64_t n, const bbn_epilogue *e, float *out);
    void (*affine)(const float *x, int64_t n, const float *scale, const float *shift, float low, float high, float *out);
    void (*add)(const float *x, const float *y, int64_t n, float low, float high, float *out);
    void (*clamp)(const float *x, int64_t n, float low, float high, float *out);
    void (*accumulate)(const float *x, int64_t n, float *total); /* total += x */
    void (*maximum)(const float *x, int64_t n, float *total);
    void (*multiply)(float *x, int64_t n, float factor, float low, float high);
    void (*product)(const float *x, const float *y, int64_t n, float low, float high, float *out);
    /* see functions.h; `out` is not x */
    void (*function)(int which, const float *x, int64_t n, float parameter, float *out);
    void (*softmax)(const float *x, int64_t n, float *out);
    void (*normalize)(const float *x, int64_t n, int center, float eps, float *out);
    /* acc[i] += sign[i] * level[i], for depthwise convolutions */
    void (*signed_add)(const int32_t *level, const int8_t *sign, int64_t n, int32_t *acc);
} bbn_kernels;

/* in this order of operands NaN becomes `low` */
static inline float bbn_clip(float x, float low, float high) {
    x = x > low ? x : low;
    return x < high ? x : high;
}

extern const bbn_kernels bbn_portable, bbn_avx2, bbn_avx512, bbn_neon, bbn_wasm; /* as isa.c has them */

#endif
