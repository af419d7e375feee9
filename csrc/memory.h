/* Memory that is counted before it is taken: the same code runs twice, first to add up, then to allocate. */
#ifndef BBN_MEMORY_H
#define BBN_MEMORY_H

#include <stdint.h>

typedef struct {
    int counting; /* nothing is allocated */
    int failed;   /* the system had not enough */
    int64_t bytes;
    void *blocks;
} bbn_memory;

/* Zeroed (by the system, when it is first touched), aligned to 64 bytes; NULL when counting and once it has failed. */
void *bbn_take(bbn_memory *memory, int64_t bytes);
void bbn_release(bbn_memory *memory); /* all of it */

static inline int64_t bbn_round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

#endif
