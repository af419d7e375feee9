/* Threads that share a range of work: the caller is one of them.  One caller at a time.
 *
 * A fork copies none of the threads: in the child the first job starts them anew, and nobody waits for the others. */
#ifndef BBN_POOL_H
#define BBN_POOL_H

#include <stdint.h>

typedef struct bbn_pool bbn_pool;
/* `thread` is below the number that the pool was made with */
typedef void (*bbn_task)(void *context, int64_t begin, int64_t end, int thread);

bbn_pool *bbn_pool_create(int threads); /* NULL if out of memory; fewer threads if the system refuses */
int bbn_pool_threads(const bbn_pool *pool);
/* Calls task on parts of [0, count), `grain` long, until all are done. */
void bbn_pool_run(bbn_pool *pool, bbn_task task, void *context, int64_t count, int64_t grain);
void bbn_pool_free(bbn_pool *pool);

#endif
