/* The contract of the training kernels: one table for each instruction set, all with the same results bit for bit.
 *
 * Random words: Philox4x32-10 (Salmon et al., 2011) with the seed as key; words 4 c ... 4 c + 3 come from the counter
 * (low half of c, high half of c, stream, 0).  So word i is a function of seed, stream and i alone.
 */
#ifndef BBN_TRAINING_H
#define BBN_TRAINING_H

#include "bayesbinn.h"

enum { BBN_WORDS = 1024 }; /* elements handled at a time: what the stack holds between two loops */
enum { BBN_STREAM_DRAW, BBN_STREAM_ROUNDING };

typedef struct bbn_training {
    /* BBN_WORDS words from counter `first` on */
    void (*words)(uint64_t seed, uint32_t stream, uint64_t first, uint32_t *out);
    /* elements [begin, end) of a draw or an update; begin is a multiple of BBN_WORDS */
    void (*draw)(const bbn_draw_job *job, int64_t begin, int64_t end);
    void (*update)(const bbn_update_job *job, int64_t begin, int64_t end);
} bbn_training;

extern const bbn_training bbn_training_portable, bbn_training_avx2, bbn_training_avx512, bbn_training_neon;

#endif
