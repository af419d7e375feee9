/* One operation on its way: what the parts of it (input.c, product.c, run.c) share.  Tasks are run by the pool. */
#ifndef BBN_JOB_H
#define BBN_JOB_H

#include "workspace.h"

/* step and zero of one input, and the clip limits that follow from them */
typedef struct {
    float step, inverse, least, most;
    int32_t zero;
} bbn_scale;

typedef struct {
    bbn_workspace *space;
    const bbn_layer *layer;
    const float *x, *y;
    float *out;
    int64_t batch, network;
    int by_rows; /* threads share the rows of one tile of pixels, not the tiles */
    int64_t tile_begin;
    bbn_scale scales[BBN_MAX_BATCH];
} bbn_job;

static inline int64_t bbn_smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* index of the input pixel that a tap meets at an output pixel, or -1 in the padding */
static inline int64_t bbn_meet(const bbn_op *op, int64_t pixel, int64_t tap) {
    int64_t y = pixel / op->shape.width * op->stride[0] + tap / op->kernel[1] * op->dilation[0] - op->padding[0];
    int64_t x = pixel % op->shape.width * op->stride[1] + tap % op->kernel[1] * op->dilation[1] - op->padding[1];
    return y < 0 || x < 0 || y >= op->source.height || x >= op->source.width ? -1 : y * op->source.width + x;
}

/* of the look-up tables of one pixel */
static inline int64_t bbn_pixel_bytes(const bbn_layer *layer) { return layer->table_bytes * layer->passes; }

/* In input.c.  Over inputs: the range of each, from which its step and zero come. */
void bbn_measure(void *job, int64_t begin, int64_t end, int thread);
/* Over pixels of the input, then the padding of each input. */
void bbn_tables_of_pixels(void *job, int64_t begin, int64_t end, int thread);
/* Over pixels of the input. */
void bbn_quantize_inputs(void *job, int64_t begin, int64_t end, int thread);
void bbn_bits_of_pixels(void *job, int64_t begin, int64_t end, int thread);
void bbn_levels_of_pixels(void *job, int64_t begin, int64_t end, int thread);
/* Over pixels of the output. */
void bbn_tables_of_windows(void *job, int64_t begin, int64_t end, int thread);

/* In product.c.  The whole product, shared out in tiles or rows. */
void bbn_share_product(bbn_job *job);
/* Over pixels of the output. */
void bbn_direct(void *job, int64_t begin, int64_t end, int thread);
void bbn_float_groups(void *job, int64_t begin, int64_t end, int thread);

#endif
