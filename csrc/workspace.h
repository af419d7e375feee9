/* What one call of a network needs to itself: memory, and the threads that share its work. */
#ifndef BBN_WORKSPACE_H
#define BBN_WORKSPACE_H

#include "claim.h"
#include "layer.h"
#include "pool.h"

enum { BBN_MAX_BATCH = 64 };
/* of tables: all rows pass over them, and the weights that stream by must not drive them out of the first-level cache */
enum { BBN_CHUNK_BYTES = 16 << 10 };

/* one thread's own memory */
typedef struct {
    int8_t *levels[2]; /* of the pixels of a tile */
    uint8_t *tables;   /* look-up tables that only this thread uses: of a part of a tile, or of a few rows of an image */
    int32_t *acc;
    const void **pointers;
} bbn_scratch;

typedef struct bbn_workspace {
    struct bbn_workspace *next;
    bbn_claim claim;
    bbn_pool *pool;
    bbn_memory memory;
    float **slots;        /* values between operations */
    float *entry, *leave; /* input and output of the tile, channels last; NULL if they have but one pixel */
    uint8_t *tables;      /* bits or levels of the operation in hand, or look-up tables that threads share */
    int8_t *gathered[2];
    uint8_t *padding; /* tables of a pixel outside the image, for each input of the tile */
    float *zeros;     /* a pixel of zeros */
    float *state;     /* of a recurrent layer: see float_ops.c */
    bbn_scratch *scratch;
} bbn_workspace;

/* One operation on `batch` inputs, at most BBN_MAX_BATCH. */
void bbn_run_op(bbn_workspace *space, const bbn_layer *layer, const float *x, const float *y, int64_t batch,
                int64_t network, float *out);

/* Rows of an image whose tables a convolution needs at once. */
static inline int64_t bbn_ring(const bbn_op *op) {
    const int64_t rows = op->dilation[0] * (op->kernel[0] - 1) + 1;
    return rows < op->source.height ? rows : op->source.height;
}

/* The same for operations on float values, and the numbers that each thread needs for one. */
void bbn_run_float(bbn_workspace *space, const bbn_layer *layer, const float *x, const float *y, int64_t batch,
                   float *out);
/* A recurrent layer, whose product with the state is the layer `product`, and the numbers of `state` for one input. */
void bbn_run_recurrent(bbn_workspace *space, const bbn_layer *layer, const bbn_layer *product, const float *x,
                       int64_t batch, int64_t network, float *out);
int64_t bbn_state_size(const bbn_op *op);
int64_t bbn_float_scratch(const bbn_op *op);

/* `rows` and `columns` swapped. */
void bbn_transpose(const float *x, int64_t rows, int64_t columns, float *out);

#endif
