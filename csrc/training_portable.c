/* Plain C: the training kernels as they are meant, for any machine. */
#include "training_body.h"

static void words(uint64_t seed, uint32_t stream, uint64_t first, uint32_t *out) {
    enum { LANES = 16 };
    for (uint64_t c = 0; c < BBN_WORDS / 4; c += LANES, out += 4 * LANES) {
        uint32_t x[4][LANES], k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
        for (int j = 0; j < LANES; j++) {
            uint64_t counter = first + c + (uint64_t)j;
            x[0][j] = (uint32_t)counter, x[1][j] = (uint32_t)(counter >> 32), x[2][j] = stream, x[3][j] = 0;
        }
        for (int round = 0; round < PHILOX_ROUNDS; round++, k0 += PHILOX_W0, k1 += PHILOX_W1)
            for (int j = 0; j < LANES; j++) {
                uint64_t p0 = (uint64_t)x[0][j] * PHILOX_M0, p1 = (uint64_t)x[2][j] * PHILOX_M1;
                x[0][j] = (uint32_t)(p1 >> 32) ^ x[1][j] ^ k0, x[1][j] = (uint32_t)p1;
                x[2][j] = (uint32_t)(p0 >> 32) ^ x[3][j] ^ k1, x[3][j] = (uint32_t)p0;
            }
        for (int j = 0; j < LANES; j++)
            for (int i = 0; i < 4; i++) out[4 * j + i] = x[i][j];
    }
}

const bbn_training bbn_training_portable = {.words = words, .draw = draw, .update = update};
