/* One operation: read the input, multiply, scale; the work is shared among the threads of the pool. */
#include <math.h>

#include "job.h"

enum { SMALL_INPUT = 1 << 15 }; /* activations that take less time than waking a thread */

static void pool_pixels(void *context, int64_t begin, int64_t end, int thread) {
    bbn_job *j = context;
    const bbn_op *op = j->layer->op;
    const bbn_kernels *k = j->layer->kernels;
    const int64_t in = bbn_pixels(op->source), out = bbn_pixels(op->shape), channels = op->source.channels;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        float *total = j->out + i * channels;
        for (int64_t c = 0; c < channels; c++) total[c] = op->kind == BBN_MAX_POOL ? -INFINITY : 0;
        for (int64_t tap = 0; tap < bbn_taps(op); tap++) {
            const int64_t pixel = bbn_meet(op, i % out, tap);
            if (pixel < 0) continue;
            const float *x = j->x + (i / out * in + pixel) * channels;
            (op->kind == BBN_MAX_POOL ? k->maximum : k->accumulate)(x, channels, total);
        }
        if (op->kind == BBN_AVG_POOL) k->multiply(total, channels, (float)(1.0 / (double)bbn_taps(op)), op->low, op->high);
    }
}

static void each_pixel(void *context, int64_t begin, int64_t end, int thread) {
    bbn_job *j = context;
    const bbn_op *op = j->layer->op;
    const bbn_kernels *k = j->layer->kernels;
    const int64_t channels = op->source.channels, at = begin * channels;
    const int64_t n = (end - begin) * channels;
    (void)thread;
    switch (op->kind) {
    case BBN_ADD: k->add(j->x + at, j->y + at, n, op->low, op->high, j->out + at); break;
    case BBN_CLAMP: k->clamp(j->x + at, n, op->low, op->high, j->out + at); break;
    case BBN_AFFINE:
        for (int64_t i = begin * channels; i < end * channels; i += channels)
            k->affine(j->x + i, channels, j->layer->scale, j->layer->shift, op->low, op->high, j->out + i);
        break;
    case BBN_SIGN:
        for (int64_t i = at; i < at + n; i++) j->out[i] = j->x[i] >= 0 ? 1.0f : -1.0f;
        break;
    default: break;
    }
}

static void flatten(void *context, int64_t begin, int64_t end, int thread) {
    bbn_job *j = context;
    const bbn_shape from = j->layer->op->source;
    (void)thread;
    for (int64_t b = begin; b < end; b++)
        bbn_transpose(j->x + b * bbn_size(from), bbn_pixels(from), from.channels, j->out + b * bbn_size(from));
}

void bbn_transpose(const float *x, int64_t rows, int64_t columns, float *out) {
    enum { SIDE = 16 }; /* squares that stay in the cache */
    for (int64_t r = 0; r < rows; r += SIDE)
        for (int64_t c = 0; c < columns; c += SIDE)
            for (int64_t i = r; i < bbn_smaller(r + SIDE, rows); i++)
                for (int64_t k = c; k < bbn_smaller(c + SIDE, columns); k++) out[k * rows + i] = x[i * columns + k];
}

void bbn_run_op(bbn_workspace *space, const bbn_layer *layer, const float *x, const float *y, int64_t batch,
                int64_t network, float *out) {
    const bbn_op *op = layer->op;
    bbn_job j = {.space = space, .layer = layer, .x = x, .y = y, .out = out, .batch = batch};
    j.network = op->kind == BBN_BINARY ? network : 0;
    bbn_pool *pool = space->pool;
    const int64_t in = batch * bbn_pixels(op->source), to = batch * bbn_pixels(op->shape);
    const int64_t grain = 1 + SMALL_INPUT / op->source.channels;
    if (op->kind == BBN_BINARY && op->activation != BBN_BITS1) {
        bbn_pool_run(pool, bbn_measure, &j, batch, 1);
    } else {
        for (int64_t b = 0; b < batch; b++) j.scales[b] = (bbn_scale){.step = 1};
    }
    switch (layer->method) {
    case BBN_TAPS:
        bbn_pool_run(pool, bbn_tables_of_pixels, &j, in + (op->padding[0] || op->padding[1] ? batch : 0), grain);
        bbn_share_product(&j);
        break;
    case BBN_GATHER:
        bbn_pool_run(pool, bbn_quantize_inputs, &j, in, grain);
        bbn_pool_run(pool, bbn_tables_of_windows, &j, to, grain);
        bbn_share_product(&j);
        break;
    case BBN_XOR:
        bbn_pool_run(pool, bbn_bits_of_pixels, &j, in, grain);
        bbn_share_product(&j);
        break;
    case BBN_DIRECT:
        bbn_pool_run(pool, bbn_levels_of_pixels, &j, in, grain);
        bbn_pool_run(pool, bbn_direct, &j, to, grain);
        break;
    case BBN_FLOAT: bbn_share_product(&j); break;
    case BBN_FLOAT_GROUPS: bbn_pool_run(pool, bbn_float_groups, &j, to, grain); break;
    case BBN_PLAIN:
        if (op->kind == BBN_MAX_POOL || op->kind == BBN_AVG_POOL)
            bbn_pool_run(pool, pool_pixels, &j, to, grain);
        else if (op->kind == BBN_FLATTEN)
            bbn_pool_run(pool, flatten, &j, batch, 1 + SMALL_INPUT / bbn_size(op->source));
        else
            bbn_pool_run(pool, each_pixel, &j, in, grain);
    }
}
