#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { SPINS = 4000 };

struct bbn_pool {
    int threads;
    pthread_t *workers;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    atomic_int job, busy, stop; /* job counts up; a worker that sees a new number helps */
    atomic_llong next;
    bbn_task task;
    void *context;
    int64_t count, grain;
};

typedef struct {
    bbn_pool *pool;
    int thread;
} seat;

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

static void *work(void *argument) {
    seat own = *(seat *)argument;
    free(argument);
    bbn_pool *pool = own.pool;
    int seen = 0;
    for (;;) {
        for (int i = 0; i < SPINS && atomic_load(&pool->job) == seen; i++) pause_briefly();
        if (atomic_load(&pool->job) == seen) {
            pthread_mutex_lock(&pool->lock);
            while (atomic_load(&pool->job) == seen) pthread_cond_wait(&pool->wake, &pool->lock);
            pthread_mutex_unlock(&pool->lock);
        }
        seen = atomic_load(&pool->job);
        if (atomic_load(&pool->stop)) return NULL;
        help(pool, own.thread);
        atomic_fetch_sub(&pool->busy, 1);
    }
}

static void announce(bbn_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->job, 1);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

bbn_pool *bbn_pool_create(int threads) {
    bbn_pool *pool = calloc(1, sizeof *pool);
    if (!pool) return NULL;
    pool->threads = 1;
    pool->workers = calloc((size_t)threads, sizeof *pool->workers);
    if (!pool->workers) {
        free(pool);
        return NULL;
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    for (; pool->threads < threads; pool->threads++) {
        seat *own = malloc(sizeof *own);
        if (!own) break;
        *own = (seat){pool, pool->threads};
        if (pthread_create(&pool->workers[pool->threads], NULL, work, own)) {
            free(own);
            break;
        }
    }
    return pool;
}

int bbn_pool_threads(const bbn_pool *pool) { return pool->threads; }

void bbn_pool_run(bbn_pool *pool, bbn_task task, void *context, int64_t count, int64_t grain) {
    if (pool->threads == 1 || count <= grain) {
        if (count > 0) task(context, 0, count, 0);
        return;
    }
    pool->task = task, pool->context = context, pool->count = count, pool->grain = grain;
    atomic_store(&pool->next, 0);
    atomic_store(&pool->busy, pool->threads - 1);
    announce(pool);
    help(pool, 0);
    for (int i = 0; atomic_load(&pool->busy) > 0; i++)
        if (i < SPINS)
            pause_briefly();
        else
            sched_yield();
}

void bbn_pool_free(bbn_pool *pool) {
    if (!pool) return;
    atomic_store(&pool->stop, 1);
    announce(pool);
    for (int i = 1; i < pool->threads; i++) pthread_join(pool->workers[i], NULL);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->wake);
    free(pool->workers);
    free(pool);
}
