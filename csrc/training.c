/* The training kernels shared out among threads. */
#include "training.h"

#include <pthread.h>
#include <unistd.h>

#include "pool.h"

extern const bbn_training bbn_training_portable;
#if defined(__x86_64__)
extern const bbn_training bbn_training_avx2, bbn_training_avx512;
static const bbn_training *const sets[] = {&bbn_training_portable, &bbn_training_avx2, &bbn_training_avx512};
#elif defined(__aarch64__)
extern const bbn_training bbn_training_neon;
static const bbn_training *const sets[] = {&bbn_training_portable, &bbn_training_neon};
#else
static const bbn_training *const sets[] = {&bbn_training_portable};
#endif

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

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* held by whoever uses the pool */
static bbn_pool *pool;
static pid_t owner; /* threads do not survive a fork */

static void run(job *j, int64_t n, int threads) {
    if (threads < 2 || n <= GRAIN || pthread_mutex_trylock(&lock)) {
        work(j, 0, n, 0);
        return;
    }
    if (!pool || bbn_pool_threads(pool) != threads || owner != getpid()) {
        if (owner == getpid()) bbn_pool_free(pool);
        pool = bbn_pool_create(threads);
        owner = getpid();
    }
    if (pool)
        bbn_pool_run(pool, work, j, n, GRAIN);
    else
        work(j, 0, n, 0);
    pthread_mutex_unlock(&lock);
}

static const bbn_training *set_at(int isa) {
    const char *name = bbn_isa_name(isa);
    return name && bbn_isa_available(name) ? sets[isa] : NULL;
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
