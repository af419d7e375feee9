/* The training kernels shared out among threads. */
#include <stddef.h>

#include "bayesbinn.h"
#include "claim.h"
#include "isa.h"
#include "pool.h"

enum { GRAIN = 16 * BBN_WORDS };

typedef struct {
    const bbn_training *set;
    const bbn_draw_job *draw; /* one of the two */
    const bbn_update_job *update;
} job;

static void work(void *context, int64_t begin, int64_t end, int thread) {
    const job *j = context;
    (void)thread;
    if (j->draw)
        j->set->draw(j->draw, begin, end);
    else
        j->set->update(j->update, begin, end);
}

static bbn_claim claim; /* held by whoever uses the pool; another caller does its work alone */
static bbn_pool *_Atomic pool;
static int size;

static void run(job *j, int64_t n, int threads) {
    if (threads < 2 || n <= GRAIN || !bbn_claim_take(&claim)) {
        work(j, 0, n, 0);
        return;
    }
    if (!pool || size != threads) {
        bbn_pool_free(atomic_exchange(&pool, NULL)); /* a fork at this moment must not find what is being freed */
        size = threads;
        pool = bbn_pool_create(threads);
    }
    if (pool)
        bbn_pool_run(pool, work, j, n, GRAIN);
    else
        work(j, 0, n, 0);
    bbn_claim_give(&claim);
}

static const bbn_training *set_at(int index) {
    const bbn_isa *isa = bbn_isa_at(index);
    return isa ? isa->training : NULL;
}

int bbn_draw(const bbn_draw_job *draw, int isa, int threads) {
    job j = {.set = set_at(isa), .draw = draw};
    if (!j.set) return 1;
    run(&j, draw->n, threads);
    return 0;
}

int bbn_update(const bbn_update_job *update, int isa, int threads) {
    job j = {.set = set_at(isa), .update = update};
    if (!j.set) return 1;
    run(&j, update->n, threads);
    return 0;
}
