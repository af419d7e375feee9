#include "claim.h"

static unsigned process = 1;

#if defined(__unix__) || defined(__APPLE__) /* elsewhere nothing forks */
#include <pthread.h>

static void forked(void) { process++; }

__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(NULL, NULL, forked); }
#endif

unsigned bbn_process(void) { return process; }

int bbn_claim_take(bbn_claim *claim) {
    unsigned found = atomic_load(claim);
    return found != process && atomic_compare_exchange_strong(claim, &found, process);
}

void bbn_claim_give(bbn_claim *claim) { atomic_store(claim, 0); }
