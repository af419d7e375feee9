/* The contract of the kernels: one table of functions for each instruction set, all with the same results bit for bit.
 *
 * Look-up product (±1 weights times small integers).  A few activations have few signed sums s: 16 of four, 64 of six.
 * Of int8 activations a table holds t = s + offset >= 0 of each in two bytes, t & 31 and t >> 5, so that sums run several
 * tables long in 8 bits, then in 16, then in 32.  A byte of the weights, the index into tables, goes with one unit:
 *   `unit` 8: two tables of four activations; [low 16][high 16][low 16][high 16], indexed by the two nibbles
 *   `unit` 6: one table of six activations; [low 64][high 64]
 * Four int6 activations have sums of one signed byte:
 *   `unit` 16: four tables of 16 sums, one after the other; four bytes of the weights, table << 4 | nibble, go with a row
 *
 * Rows (output channels) come in blocks of `rows` or `xor_rows`; weights are stored block by block:
 *   look-up:  [block][segment][unit][bytes]               sign:  [block][segment][word][row] 64-bit words
 * (a kernel of `unit` 6 or 8 may want row r of a block in another byte: `lane[r]`, NULL for byte r)
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

typedef struct {
    int unit, table_bytes; /* activations in a unit, bytes of its tables */
    int rows, pixels;
    int unit_bytes; /* of the weights of a block that go with a unit */
    const uint8_t *lane;
    /* tables of `units` units from unit * units levels */
    void (*tables)(const int8_t *levels, int64_t units, uint8_t *tables);
    /* acc[p * stride + r] += sum over segments of w_r * x_p, at most BBN_LUT_UNITS units in all; the pixels' segments
     * begin `offset` bytes into tables[p * segments + i], those of the weights `weight_stride` bytes apart */
    void (*product)(const uint8_t *weights, int64_t weight_stride, const uint8_t *const *tables, int64_t offset,
                    int pixels, int64_t segments, int64_t units, int32_t *acc, int64_t stride);
} bbn_lut;

typedef struct bbn_kernels {
    bbn_lut lut, narrow; /* of int8 levels, and of int6 levels: `unit` 0 if those are computed as int8 */
    int xor_rows, xor_pixels;

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
    /* of one head: `scores` is room for `length` numbers */
    void (*attend)(const float *q, const float *keys, const float *values, int64_t length, int64_t head, float *scores,
                   float *out);
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
