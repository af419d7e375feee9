/* NEON.  Four counters side by side; the store of four interleaved words puts them in order. */
#include <arm_neon.h>

#include "training_body.h"

enum { LANES = 4 };

static inline void multiply(uint32x4_t x, uint32_t factor, uint32x4_t *low, uint32x4_t *high) {
    uint64x2_t first = vmull_n_u32(vget_low_u32(x), factor), second = vmull_n_u32(vget_high_u32(x), factor);
    *low = vuzp1q_u32(vreinterpretq_u32_u64(first), vreinterpretq_u32_u64(second));
    *high = vuzp2q_u32(vreinterpretq_u32_u64(first), vreinterpretq_u32_u64(second));
}

static void words(uint64_t seed, uint32_t stream, uint64_t first, uint32_t *out) {
    for (uint64_t c = 0; c < BBN_WORDS / 4; c += LANES, out += 4 * LANES) {
        uint32_t start[2][LANES], k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
        for (int j = 0; j < LANES; j++) {
            uint64_t counter = first + c + (uint64_t)j;
            start[0][j] = (uint32_t)counter, start[1][j] = (uint32_t)(counter >> 32);
        }
        uint32x4x4_t x = {{vld1q_u32(start[0]), vld1q_u32(start[1]), vdupq_n_u32(stream), vdupq_n_u32(0)}};
        for (int round = 0; round < PHILOX_ROUNDS; round++, k0 += PHILOX_W0, k1 += PHILOX_W1) {
            uint32x4_t low0, high0, low1, high1;
            multiply(x.val[0], PHILOX_M0, &low0, &high0);
            multiply(x.val[2], PHILOX_M1, &low1, &high1);
            x.val[0] = veorq_u32(veorq_u32(high1, x.val[1]), vdupq_n_u32(k0)), x.val[1] = low1;
            x.val[2] = veorq_u32(veorq_u32(high0, x.val[3]), vdupq_n_u32(k1)), x.val[3] = low0;
        }
        vst4q_u32(out, x);
    }
}

const bbn_training bbn_training_neon = {.words = words, .draw = draw, .update = update};
