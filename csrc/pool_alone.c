/* The pool of a machine without threads: the caller does all the work. */
#include <stdlib.h>

#include "pool.h"

struct bbn_pool {
    int wanted; /* and not had; no structure may be empty */
};

bbn_pool *bbn_pool_create(int threads) {
    bbn_pool *pool = malloc(sizeof *pool);
    if (pool) pool->wanted = threads;
    return pool;
}

int bbn_pool_threads(const bbn_pool *pool) {
    (void)pool;
    return 1;
}

void bbn_pool_run(bbn_pool *pool, bbn_task task, void *context, int64_t count, int64_t grain) {
    (void)pool, (void)grain;
    if (count > 0) task(context, 0, count, 0);
}

void bbn_pool_free(bbn_pool *pool) { free(pool); }
