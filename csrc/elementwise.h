/* Kernels that compilers vectorise well from plain C, compiled once for each instruction set that includes this file.
 * Every float operation rounds on its own (the build forbids contraction), so all of them agree bit for bit. */
#ifndef BBN_ELEMENTWISE_H
#define BBN_ELEMENTWISE_H

#include <math.h>
#include <string.h>

#include "kernels.h"

/* nearest integer, ties to even, for |x| < 2^22: adding 1.5 * 2^23 leaves no room for fractions */
static inline int32_t bbn_round(float x) {
    const float magic = 12582912.0f;
    return (int32_t)((x + magic) - magic);
}

static void range(const float *restrict x, int64_t n, float *restrict low, float *restrict high) {
    enum { LANES = 64 };
    float lows[LANES], highs[LANES];
    for (int j = 0; j < LANES; j++) lows[j] = *low, highs[j] = *high;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) {
            float v = x[i + j];
            lows[j] = v < lows[j] ? v : lows[j];
            highs[j] = v > highs[j] ? v : highs[j];
        }
    for (int j = 0; i < n; i++, j++) {
        lows[j] = x[i] < lows[j] ? x[i] : lows[j];
        highs[j] = x[i] > highs[j] ? x[i] : highs[j];
    }
    for (int j = 0; j < LANES; j++) {
        *low = lows[j] < *low ? lows[j] : *low;
        *high = highs[j] > *high ? highs[j] : *high;
    }
}

static void quantize8(const float *restrict x, int64_t n, float inverse, float least, float most, int32_t zero,
                      int8_t *restrict q) {
    for (int64_t i = 0; i < n; i++) q[i] = (int8_t)(bbn_round(bbn_clip(x[i] * inverse, least, most)) + zero);
}

static void quantize16(const float *restrict x, int64_t n, float inverse, float least, float most, int32_t zero,
                       int8_t *restrict high, int8_t *restrict low) {
    for (int64_t i = 0; i < n; i++) {
        int32_t q = bbn_round(bbn_clip(x[i] * inverse, least, most)) + zero;
        int32_t top = ((q + 128 + 32768) >> 8) - 128;
        high[i] = (int8_t)top;
        low[i] = (int8_t)(q - 256 * top);
    }
}

static void finish(const int32_t *restrict acc, int64_t n, const bbn_epilogue *e, float *restrict out) {
    const float *restrict scale = e->scale, *restrict shift = e->shift;
    const int32_t *restrict correction = e->correction;
    const float step = e->step, low = e->low, high = e->high;
    const int32_t zero = e->zero;
    if (correction && zero)
        for (int64_t i = 0; i < n; i++)
            out[i] = bbn_clip((float)(acc[i] - zero * correction[i]) * (step * scale[i]) + shift[i], low, high);
    else
        for (int64_t i = 0; i < n; i++)
            out[i] = bbn_clip((float)acc[i] * (step * scale[i]) + shift[i], low, high);
}

static void affine(const float *restrict x, int64_t n, const float *restrict scale, const float *restrict shift,
                   float low, float high, float *restrict out) {
    for (int64_t i = 0; i < n; i++) out[i] = bbn_clip(x[i] * scale[i] + shift[i], low, high);
}

static void add(const float *restrict x, const float *restrict y, int64_t n, float low, float high,
                float *restrict out) {
    for (int64_t i = 0; i < n; i++) out[i] = bbn_clip(x[i] + y[i], low, high);
}

static void clamp(const float *restrict x, int64_t n, float low, float high, float *restrict out) {
    for (int64_t i = 0; i < n; i++) out[i] = bbn_clip(x[i], low, high);
}

static void accumulate(const float *restrict x, int64_t n, float *restrict total) {
    for (int64_t i = 0; i < n; i++) total[i] += x[i];
}

static void maximum(const float *restrict x, int64_t n, float *restrict total) {
    for (int64_t i = 0; i < n; i++) total[i] = x[i] > total[i] ? x[i] : total[i];
}

static void multiply(float *restrict x, int64_t n, float factor, float low, float high) {
    for (int64_t i = 0; i < n; i++) x[i] = bbn_clip(x[i] * factor, low, high);
}

static void signed_add(const int32_t *restrict level, const int8_t *restrict sign, int64_t n, int32_t *restrict acc) {
    for (int64_t i = 0; i < n; i++) acc[i] += sign[i] * level[i];
}

/* GCC and clang lower this to whatever vectors the instruction set has */
typedef float bbn_floats __attribute__((vector_size(4 * BBN_REAL_ROWS), aligned(4), may_alias));

static inline __attribute__((always_inline)) void real_pixels(const float *weights, const float *const *x,
                                                              const int pixels, int64_t segments, int64_t channels,
                                                              float *acc, int64_t stride) {
    bbn_floats sums[BBN_MAX_PIXELS];
    for (int p = 0; p < pixels; p++) sums[p] = (bbn_floats){0};
    for (int64_t s = 0; s < segments; s++)
        for (int64_t c = 0; c < channels; c++) {
            bbn_floats w = *(const bbn_floats *)(weights + (s * channels + c) * BBN_REAL_ROWS);
            for (int p = 0; p < pixels; p++) sums[p] = sums[p] + x[p * segments + s][c] * w;
        }
    for (int p = 0; p < pixels; p++) memcpy(acc + p * stride, &sums[p], sizeof sums[p]);
}

static void real(const float *weights, const float *const *x, int pixels, int64_t segments, int64_t channels,
                 float *acc, int64_t stride) {
    switch (pixels) {
    case 4: real_pixels(weights, x, 4, segments, channels, acc, stride); break;
    case 3: real_pixels(weights, x, 3, segments, channels, acc, stride); break;
    case 2: real_pixels(weights, x, 2, segments, channels, acc, stride); break;
    default: real_pixels(weights, x, 1, segments, channels, acc, stride);
    }
}

#include "functions.h"

/* the fields of a bbn_kernels that this file provides */
#define BBN_ELEMENTWISE                                                                                             \
    .real = real, .range = range, .quantize8 = quantize8, .quantize16 = quantize16, .finish = finish,                \
    .affine = affine, .add = add, .clamp = clamp, .accumulate = accumulate, .maximum = maximum,                      \
    .multiply = multiply, .signed_add = signed_add, .product = product, .function = function, .softmax = softmax,    \
    .normalize = normalize, .attend = attend

#endif
