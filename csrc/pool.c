#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "claim.h"

enum { SPINS = 4000 };

/* `state` is twice the number of the job, plus 1 while it is open, in the upper half; in the lower half, how many workers
 * are at it.  A worker joins only an open job; the caller closes it when no work is left to hand out, and waits only for
 * those who joined: a worker that the system has not woken yet holds nobody up. */
typedef struct {
    bbn_pool *pool;
    int thread;
    pthread_t id;
} worker;

struct bbn_pool {
    int wanted, threads;
    unsigned process; /* whose threads they are */
    worker *workers;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    atomic_ullong state;
    atomic_int stop;
    atomic_llong next;
    bbn_task task;
    void *context;
    int64_t count, grain;
};

static void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void help(bbn_pool *pool, int thread) {
    for (;;) {
        int64_t begin = atomic_fetch_add(&pool->next, pool->grain);
        if (begin >= pool->count) return;
        int64_t end = begin + pool->grain < pool->count ? begin + pool->grain : pool->count;
        pool->task(pool->context, begin, end, thread);
    }
}

static uint32_t job_of(unsigned long long state) { return (uint32_t)(state >> 32); }

/* an open job that the worker has not seen */
static int fresh(bbn_pool *pool, uint32_t seen) {
    uint32_t job = job_of(atomic_load(&pool->state));
    return (job & 1) && job != seen;
}

/* the state joined, or 0 */
static unsigned long long join(bbn_pool *pool) {
    unsigned long long state = atomic_load(&pool->state);
    while (job_of(state) & 1)
        if (atomic_compare_exchange_weak(&pool->state, &state, state + 1)) return state;
    return 0;
}

static void *work(void *argument) {
    const worker *own = argument;
    bbn_pool *pool = own->pool;
    uint32_t seen = 0; /* the last job this worker knows of */
    for (;;) {
        for (int i = 0; i < SPINS && !fresh(pool, seen); i++) pause_briefly();
        if (!fresh(pool, seen)) {
            pthread_mutex_lock(&pool->lock);
            while (!fresh(pool, seen) && !atomic_load(&pool->stop))
                pthread_cond_wait(&pool->wake, &pool->lock);
            pthread_mutex_unlock(&pool->lock);
        }
        if (atomic_load(&pool->stop)) return NULL;
        unsigned long long joined = join(pool);
        if (joined) {
            seen = job_of(joined);
            help(pool, own->thread);
            atomic_fetch_sub(&pool->state, 1);
        }
    }
}

/* to the next job, or to the end of this one; wakes whoever sleeps */
static void announce(bbn_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->state, 1ull << 32);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

/* trusts nothing of a pool that comes from before a fork, not even its lock */
static void start(bbn_pool *pool) {
    atomic_store(&pool->state, 0);
    atomic_store(&pool->stop, 0);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    for (pool->threads = 1; pool->threads < pool->wanted; pool->threads++) {
        worker *own = &pool->workers[pool->threads];
        *own = (worker){.pool = pool, .thread = pool->threads};
        if (pthread_create(&own->id, NULL, work, own)) break;
    }
    pool->process = bbn_process();
}

bbn_pool *bbn_pool_create(int threads) {
    bbn_pool *pool = calloc(1, sizeof *pool);
    worker *workers = calloc((size_t)threads, sizeof *workers);
    if (!pool || !workers) return free(pool), free(workers), NULL;
    pool->wanted = threads, pool->workers = workers;
    start(pool);
    return pool;
}

int bbn_pool_threads(const bbn_pool *pool) { return pool->threads; }

void bbn_pool_run(bbn_pool *pool, bbn_task task, void *context, int64_t count, int64_t grain) {
    if (pool->process != bbn_process()) start(pool);
    if (pool->threads == 1 || count <= grain) {
        if (count > 0) task(context, 0, count, 0);
        return;
    }
    pool->task = task, pool->context = context, pool->count = count, pool->grain = grain;
    atomic_store(&pool->next, 0);
    announce(pool);
    help(pool, 0);
    atomic_fetch_add(&pool->state, 1ull << 32); /* closed */
    for (int i = 0; (uint32_t)atomic_load(&pool->state) > 0; i++)
        if (i < SPINS)
            pause_briefly();
        else
            sched_yield();
}

void bbn_pool_free(bbn_pool *pool) {
    if (!pool) return;
    if (pool->process == bbn_process()) {
        atomic_store(&pool->stop, 1);
        announce(pool);
        for (int i = 1; i < pool->threads; i++) pthread_join(pool->workers[i].id, NULL);
        pthread_mutex_destroy(&pool->lock);
        pthread_cond_destroy(&pool->wake);
    }
    free(pool->workers);
    free(pool);
}
