/* Who holds a claim is the only one to use what it guards.  Nobody waits for a claim, and a fork gives back those of the
 * threads that it did not copy. */
#ifndef BBN_CLAIM_H
#define BBN_CLAIM_H

#include <stdatomic.h>
#include <stdint.h>

typedef atomic_uint bbn_claim; /* 0, or the process whose thread holds it */

/* Not 0; moves on in the child of a fork.  (Not the process id, which a later process may have again.) */
unsigned bbn_process(void);
/* Returns 0 if a thread of this process holds it. */
int bbn_claim_take(bbn_claim *claim);
void bbn_claim_give(bbn_claim *claim);

#endif
