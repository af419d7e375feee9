/* Draw and update, compiled once for each instruction set that includes this file after defining `words`.
 *
 * The loops are plain C that compilers vectorise.  Every float operation rounds on its own (the build forbids
 * contraction) and none depends on the number of lanes, so all instruction sets agree bit for bit; philox.py is the same
 * arithmetic in torch. */
#ifndef BBN_TRAINING_BODY_H
#define BBN_TRAINING_BODY_H

#include <math.h>
#include <string.h>

#include "training.h"

enum { PHILOX_ROUNDS = 7 };
#define PHILOX_M0 0xD2511F53u
#define PHILOX_M1 0xCD9E8D57u
#define PHILOX_W0 0x9E3779B9u
#define PHILOX_W1 0xBB67AE85u

static void words(uint64_t seed, uint32_t stream, uint64_t first, uint32_t *out);

static inline float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* 2^31 times the chance q = e / (1 + e), e = exp(-2 |natural|), that w is not the sign of natural; rounded down, so that
 * a chance below 2^-31 is none.  Beyond |natural| = 16 it is none in any case, and NaN counts as that. */
static inline int32_t threshold(float natural) {
    float z = fabsf(natural) * 2.88539008f; /* e = 2^-z */
    z = z < 46.0f ? z : 46.0f;
    float shifted = z + 12582912.0f; /* 1.5 * 2^23 leaves no room for fractions: its lowest bits are round(z) */
    float f = (shifted - 12582912.0f) - z;
    float f2 = f * f; /* 2^f for |f| <= 1/2, by the polynomial of least relative error, 9e-8; exactly 1 at f = 0 */
    float e = ((0.0013264726f * f + 0.009671513f) * f2 + (0.055507336f * f + 0.24022242f)) * f2 + (0.693147f * f + 1.0f);
    e = float_of(bits_of(e) - (bits_of(shifted) << 23));
    return (int32_t)(e / (1.0f + e) * 2147483648.0f);
}

static void draw_block(const float *restrict natural, const uint32_t *restrict random, int64_t n,
                       float *restrict weight) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t flip = (int32_t)(random[i] >> 1) < threshold(natural[i]) ? 0x80000000u : 0;
        weight[i] = float_of(0x3F800000u | ((bits_of(natural[i]) ^ flip) & 0x80000000u));
    }
}

static void widen(const uint16_t *restrict x, int64_t n, float *restrict out) {
    for (int64_t i = 0; i < n; i++) out[i] = float_of((uint32_t)x[i] << 16);
}

/* the upper half, one more with the chance that the lower half stands for; NaN and inf stay */
static void round_up_or_down(const float *restrict x, const uint32_t *restrict random, int64_t n,
                             uint16_t *restrict out) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = bits_of(x[i]), finite = (uint32_t)((bits & 0x7F800000u) != 0x7F800000u);
        uint32_t nan = (uint32_t)((bits & 0x7FFFFFFFu) > 0x7F800000u);
        out[i] = (uint16_t)(((bits + (random[i] >> 16) * finite) >> 16) | nan << 6);
    }
}

static void upper_half(const float *restrict x, int64_t n, uint16_t *restrict out) {
    for (int64_t i = 0; i < n; i++) out[i] = (uint16_t)(bits_of(x[i]) >> 16);
}

static void draw(const bbn_draw_job *job, int64_t begin, int64_t end) {
    uint32_t random[BBN_WORDS];
    float natural[BBN_WORDS], weight[BBN_WORDS];
    for (int64_t i = begin; i < end; i += BBN_WORDS) {
        int64_t n = end - i < BBN_WORDS ? end - i : BBN_WORDS;
        words((uint64_t)*job->seed, BBN_STREAM_DRAW, (uint64_t)i / 4, random);
        const float *from = (const float *)job->natural + i;
        if (job->natural_type == BBN_BFLOAT16) {
            widen((const uint16_t *)job->natural + i, n, natural);
            from = natural;
        }
        if (job->weight_type == BBN_BFLOAT16) {
            draw_block(from, random, n, weight);
            upper_half(weight, n, (uint16_t *)job->weight + i); /* exact for +1 and -1 */
        } else
            draw_block(from, random, n, (float *)job->weight + i);
    }
}

enum { LANES_OF_SUM = 16 };

/* lane l adds elements l, l + 16, ...; then the lanes are added in turn: one order for every instruction set */
static float sum_of_squares(const float *restrict x, int64_t n) {
    float lanes[LANES_OF_SUM] = {0};
    for (int64_t i = 0; i < n; i += LANES_OF_SUM)
        for (int l = 0; l < LANES_OF_SUM; l++) lanes[l] += x[i + l] * x[i + l];
    float sum = lanes[0];
    for (int l = 1; l < LANES_OF_SUM; l++) sum += lanes[l];
    return sum;
}

/* g for n <= BBN_WORDS elements; zeros up to a multiple of LANES_OF_SUM */
static void descent(const bbn_update_job *job, const float *restrict natural, const float *restrict grad,
                    const float *restrict prior, int64_t n, float *restrict g) {
    const float ratio = job->ratio, value = job->prior_value;
    if (prior)
        for (int64_t i = 0; i < n; i++) g[i] = (natural[i] - prior[i]) + grad[i] * ratio;
    else
        for (int64_t i = 0; i < n; i++) g[i] = (natural[i] - value) + grad[i] * ratio;
    for (int64_t i = n; i % LANES_OF_SUM; i++) g[i] = 0.0f;
}

static void collected(const bbn_update_job *job, float *restrict natural, const float *restrict grad,
                      const float *restrict prior, int64_t n) {
    const float decay = job->decay, step = job->step, pull = job->pull, value = job->prior_value;
    if (prior)
        for (int64_t i = 0; i < n; i++) natural[i] = (natural[i] * decay + grad[i] * step) + prior[i] * pull;
    else if (value != 0.0f)
        for (int64_t i = 0; i < n; i++) natural[i] = (natural[i] * decay + grad[i] * step) + value;
    else
        for (int64_t i = 0; i < n; i++) natural[i] = natural[i] * decay + grad[i] * step;
}

/* elements of one block; the pointers are at its first */
static void update_block(const bbn_update_job *job, float *restrict natural, const float *grad, const float *prior,
                         float *restrict momentum, float *restrict second, float *restrict squares, int64_t n) {
    float g[BBN_WORDS], size[BBN_WORDS];
    const float beta = job->beta, keep = job->keep, step = job->step;
    if (job->collected) {
        collected(job, natural, grad, prior, n);
        return;
    }
    descent(job, natural, grad, prior, n, g);
    if (squares) *squares = sum_of_squares(g, n);
    if (!second) {
        if (momentum)
            for (int64_t i = 0; i < n; i++) {
                float m_i = momentum[i] * beta + g[i] * keep;
                momentum[i] = m_i;
                natural[i] = natural[i] + m_i * step;
            }
        else
            for (int64_t i = 0; i < n; i++) natural[i] = natural[i] + g[i] * step;
        return;
    }
    const float beta2 = job->beta2, keep2 = job->keep2, scale2 = job->scale2, lr = job->lr, eps = job->eps;
    for (int64_t i = 0; i < n; i++) { /* the size of the step: min(1, lr / (sqrt(v) + eps)) */
        second[i] = second[i] * beta2 + (g[i] * g[i]) * keep2;
        float rate = lr / (sqrtf(second[i] * scale2) + eps);
        size[i] = rate < 1.0f ? rate : 1.0f;
    }
    if (momentum)
        for (int64_t i = 0; i < n; i++) {
            float m_i = momentum[i] * beta + g[i] * keep;
            momentum[i] = m_i;
            natural[i] = natural[i] + (m_i * size[i]) * step;
        }
    else
        for (int64_t i = 0; i < n; i++) natural[i] = natural[i] + (g[i] * size[i]) * step;
}

/* begin is a multiple of BBN_WORDS */
static void update(const bbn_update_job *job, int64_t begin, int64_t end) {
    uint32_t random[BBN_WORDS];
    float wide[BBN_WORDS], wide_grad[BBN_WORDS], wide_prior[BBN_WORDS];
    for (int64_t i = begin; i < end; i += BBN_WORDS) {
        int64_t n = end - i < BBN_WORDS ? end - i : BBN_WORDS;
        float *natural = (float *)job->natural + i;
        const float *grad = (const float *)job->grad + i, *prior = job->prior ? (const float *)job->prior + i : NULL;
        if (job->type == BBN_BFLOAT16) {
            widen((const uint16_t *)job->natural + i, n, natural = wide);
            widen((const uint16_t *)job->grad + i, n, wide_grad);
            grad = wide_grad;
            if (job->prior) {
                widen((const uint16_t *)job->prior + i, n, wide_prior);
                prior = wide_prior;
            }
        }
        update_block(job, natural, grad, prior, job->momentum ? job->momentum + i : NULL,
                     job->second ? job->second + i : NULL, job->squares ? job->squares + i / BBN_WORDS : NULL, n);
        if (job->type == BBN_BFLOAT16) {
            words((uint64_t)*job->seed, BBN_STREAM_ROUNDING, (uint64_t)i / 4, random);
            round_up_or_down(wide, random, n, (uint16_t *)job->natural + i);
        }
    }
}

#endif
