/* The instruction sets: one row for each, with its kernels of inference and of training. */
#ifndef BBN_ISA_H
#define BBN_ISA_H

#include "kernels.h"
#include "training.h"

typedef struct {
    const char *name;
    int (*available)(void); /* whether this machine can run it */
    const bbn_kernels *kernels;
    const bbn_training *training; /* NULL where the library does not train */
} bbn_isa;

/* The row of an index below bbn_isa_count; NULL if there is none or this machine cannot run it. */
const bbn_isa *bbn_isa_at(int index);

#endif
