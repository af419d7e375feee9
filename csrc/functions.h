/* Functions of float32 numbers, each a fixed row of float operations: the same bits for every instruction set, and in
 * runtime/functions.py, which has the formulas and their errors.  Included by elementwise.h. */
#ifndef BBN_FUNCTIONS_H
#define BBN_FUNCTIONS_H

#include "program.h"

enum { BBN_LANES = 16 };

static inline float bbn_exp(float x) {
    x = bbn_clip(x, -87.0f, 88.0f);
    const float magic = 12582912.0f;
    float n = (x * 1.44269504088896341f + magic) - magic;
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    float y = (p * (r * r) + r) + 1.0f, power;
    int32_t bits = ((int32_t)n + 127) * (1 << 23);
    memcpy(&power, &bits, sizeof power);
    return y * power;
}

static inline float bbn_sigmoid(float x) { return 1.0f / (1.0f + bbn_exp(-x)); }

static inline float bbn_tanh(float x) { return 1.0f - 2.0f / (bbn_exp(x * 2.0f) + 1.0f); }

static inline float bbn_erf(float x) {
    float z = x < 0.0f ? -x : x;
    float t = 1.0f / (z * 0.3275911f + 1.0f);
    float p = 1.061405429f;
    p = p * t + -1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t + -0.284496736f;
    p = p * t + 0.254829592f;
    float y = 1.0f - (p * t) * bbn_exp(-(z * z));
    return x < 0.0f ? -y : y;
}

#define BBN_EACH(expression)                     \
    for (int64_t i = 0; i < n; i++) {            \
        const float v = x[i];                    \
        out[i] = (expression);                   \
    }                                            \
    break

static inline float bbn_mish(float x) {
    float e = bbn_exp(bbn_clip(x, -87.0f, 20.0f)), n = e * (e + 2.0f);
    return x * (n / (n + 2.0f));
}

static inline float bbn_gelu_tanh(float x) {
    float inner = (x * 0.7978845608f) * (((x * x) * 0.044715f) + 1.0f);
    return (x * 0.5f) * (bbn_tanh(inner) + 1.0f);
}

static void function(int which, const float *restrict x, int64_t n, float parameter, float *restrict out) {
    switch ((bbn_function)which) {
    case BBN_SIGMOID: BBN_EACH(bbn_sigmoid(v));
    case BBN_TANH: BBN_EACH(bbn_tanh(v));
    case BBN_SILU: BBN_EACH(v * bbn_sigmoid(v));
    case BBN_GELU: BBN_EACH((v * 0.5f) * (bbn_erf(v * 0.70710678f) + 1.0f));
    case BBN_GELU_TANH: BBN_EACH(bbn_gelu_tanh(v));
    case BBN_MISH: BBN_EACH(bbn_mish(v));
    case BBN_ELU: BBN_EACH(v > 0.0f ? v : (bbn_exp(bbn_clip(v, -87.0f, 0.0f)) - 1.0f) * parameter);
    case BBN_LEAKY_RELU: BBN_EACH(v > 0.0f ? v : v * parameter);
    case BBN_HARDSIGMOID: BBN_EACH(bbn_clip(v + 3.0f, 0.0f, 6.0f) * (float)(1.0 / 6));
    case BBN_HARDSWISH: BBN_EACH(v * (bbn_clip(v + 3.0f, 0.0f, 6.0f) * (float)(1.0 / 6)));
    case BBN_NUM_FUNCTIONS: break;
    }
}
#undef BBN_EACH

/* sum of 16 lanes: the upper half is added to the lower, until one is left */
static inline float bbn_halves(float *lanes) {
    for (int width = BBN_LANES / 2; width; width /= 2)
        for (int j = 0; j < width; j++) lanes[j] = lanes[j] + lanes[j + width];
    return lanes[0];
}

/* number i goes to lane i mod 16; squares of them with `square` */
static inline float bbn_lane_sum(const float *restrict x, int64_t n, const int square) {
    float lanes[BBN_LANES] = {0};
    int64_t i = 0;
    for (; i + BBN_LANES <= n; i += BBN_LANES)
        for (int j = 0; j < BBN_LANES; j++) lanes[j] = lanes[j] + (square ? x[i + j] * x[i + j] : x[i + j]);
    for (int j = 0; i < n; i++, j++) lanes[j] = lanes[j] + (square ? x[i] * x[i] : x[i]);
    return bbn_halves(lanes);
}

static void softmax(const float *restrict x, int64_t n, float *restrict out) {
    float low = 0, high = -INFINITY;
    range(x, n, &low, &high);
    for (int64_t i = 0; i < n; i++) out[i] = bbn_exp(x[i] - high);
    const float total = bbn_lane_sum(out, n, 0);
    for (int64_t i = 0; i < n; i++) out[i] = out[i] / total;
}

static inline float bbn_lane_dot(const float *restrict x, const float *restrict y, int64_t n) {
    float lanes[BBN_LANES] = {0};
    int64_t i = 0;
    for (; i + BBN_LANES <= n; i += BBN_LANES)
        for (int j = 0; j < BBN_LANES; j++) lanes[j] = lanes[j] + x[i + j] * y[i + j];
    for (int j = 0; i < n; i++, j++) lanes[j] = lanes[j] + x[i] * y[i];
    return bbn_halves(lanes);
}

/* softmax(K q / sqrt(head)) V for `length` keys and values */
static void attend(const float *restrict q, const float *restrict keys, const float *restrict values, int64_t length,
                   int64_t head, float *restrict scores, float *restrict out) {
    const float factor = 1.0f / sqrtf((float)head);
    float low = 0, high = -INFINITY;
    for (int64_t t = 0; t < length; t++) scores[t] = bbn_lane_dot(q, keys + t * head, head) * factor;
    range(scores, length, &low, &high);
    for (int64_t t = 0; t < length; t++) scores[t] = bbn_exp(scores[t] - high);
    const float inverse = 1.0f / bbn_lane_sum(scores, length, 0);
    for (int64_t i = 0; i < head; i++) out[i] = 0;
    for (int64_t t = 0; t < length; t++, values += head) {
        const float share = scores[t] * inverse;
        for (int64_t i = 0; i < head; i++) out[i] = out[i] + share * values[i];
    }
}

static void normalize(const float *restrict x, int64_t n, int center, float eps, float *restrict out) {
    const float count = (float)n, mean = center ? bbn_lane_sum(x, n, 0) / count : 0.0f;
    for (int64_t i = 0; i < n; i++) out[i] = center ? x[i] - mean : x[i];
    const float inverse = 1.0f / sqrtf(bbn_lane_sum(out, n, 1) / count + eps);
    for (int64_t i = 0; i < n; i++) out[i] = out[i] * inverse;
}

static void product(const float *restrict x, const float *restrict y, int64_t n, float low, float high,
                    float *restrict out) {
    for (int64_t i = 0; i < n; i++) out[i] = bbn_clip(x[i] * y[i], low, high);
}

#endif
