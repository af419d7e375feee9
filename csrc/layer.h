/* An operation made ready for one instruction set: its weights in the order of the kernels. */
#ifndef BBN_LAYER_H
#define BBN_LAYER_H

#include "kernels.h"
#include "memory.h"
#include "program.h"

/* how a layer is computed */
typedef enum {
    BBN_PLAIN,   /* no weights */
    BBN_TAPS,    /* look-up product; one run of tables for each input pixel, shared by all taps that meet it */
    BBN_GATHER,  /* look-up product; the few channels of all taps are gathered first */
    BBN_XOR,     /* 1 bit times 1 bit */
    BBN_DIRECT,  /* binary with groups: one product after the other */
    BBN_FLOAT,   /* real weights */
    BBN_FLOAT_GROUPS,
} bbn_method;

typedef struct {
    const bbn_op *op;
    const bbn_kernels *kernels;
    const bbn_lut *lut; /* of the look-up product */
    bbn_method method;
    int block;             /* rows in a block of the kernel */
    int64_t rows;          /* output channels rounded up to whole blocks */
    int64_t segments;      /* runs of inputs, see kernels.h */
    int64_t length;        /* units, words or channels in a segment */
    int64_t table_bytes;   /* look-up: of all units of a segment */
    int passes;            /* 2 for int16: high and low bytes */
    int64_t networks;      /* that have weights of their own; scale and shift have op->rows of them */
    int64_t network_bytes; /* of the weights of one network */
    uint8_t *weights;
    int64_t num_corrections; /* of one network */
    int32_t *correction; /* look-up: sum of the weights of each row; sign: the same for each tap (taps, rows) */
    float *scale, *shift;
} bbn_layer;

/* First how it is computed, then its memory (see memory.h), then its weights. */
void bbn_layer_choose(bbn_layer *layer, const bbn_op *op, const bbn_kernels *kernels, int64_t num_networks);
void bbn_layer_take(bbn_layer *layer, bbn_memory *memory);
void bbn_layer_fill(bbn_layer *layer);
/* The layer with the real numbers of one network alone. */
bbn_layer bbn_layer_of(const bbn_layer *layer, int64_t network);

#endif
