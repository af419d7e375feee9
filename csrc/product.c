/* Products of weights and inputs, scaled and clipped. */
#include <string.h>

#include "job.h"

/* multiply-accumulates that take less time than waking a thread */
enum { SMALL_PRODUCT = 1 << 22 };
/* of tables: all rows pass over them, and the weights that stream by must not drive them out of the first-level cache */
enum { CHUNK_BYTES = 16 << 10 };

static void finish_rows(const bbn_job *j, int64_t pixel, int64_t row, int64_t count, int32_t *acc) {
    const bbn_layer *layer = j->layer;
    const bbn_op *op = layer->op;
    const bbn_scale *s = &j->scales[pixel / bbn_pixels(op->shape)];
    const int lut = layer->method == BBN_TAPS || layer->method == BBN_GATHER;
    const int32_t *correction = lut ? layer->correction + j->network * layer->rows + row : NULL;
    const bbn_epilogue e = {correction, layer->scale + row, layer->shift + row, s->step, op->low, op->high, s->zero};
    j->layer->kernels->finish(acc, count, &e, j->out + pixel * op->shape.channels + row);
}

static void point_at_tables(const bbn_job *j, int64_t tile, int pixels, int pass, int64_t segment, int64_t segments,
                            const uint8_t **to) {
    const bbn_layer *layer = j->layer;
    const bbn_op *op = layer->op;
    const int64_t in = bbn_pixels(op->source), out = bbn_pixels(op->shape), bytes = bbn_pixel_bytes(layer);
    for (int p = 0; p < pixels; p++)
        for (int64_t s = 0; s < segments; s++) {
            const int64_t b = (tile + p) / out;
            const uint8_t *table = j->space->tables + (tile + p) * bytes;
            if (layer->method == BBN_TAPS) {
                const int64_t pixel = bbn_meet(op, (tile + p) % out, segment + s);
                table = pixel < 0 ? j->space->padding + b * bytes : j->space->tables + (b * in + pixel) * bytes;
            }
            to[p * segments + s] = table + pass * layer->table_bytes;
        }
}

/* blocks of rows [from, to) for `pixels` output pixels; the sums are in [pixel][row] */
static void lut_tile(const bbn_job *j, bbn_scratch *own, int64_t tile, int pixels, int64_t from, int64_t to) {
    const bbn_layer *layer = j->layer;
    const bbn_kernels *k = j->layer->kernels;
    const int64_t block = layer->block, length = layer->length;
    const int64_t block_bytes = layer->segments * length * block;
    const uint8_t *weights = layer->weights + j->network * layer->network_bytes;
    const uint8_t **pointers = (const uint8_t **)(void *)own->pointers;
    const int64_t unit_bytes = k->lut_table_bytes, units = bbn_smaller(CHUNK_BYTES / (unit_bytes * pixels), BBN_LUT_UNITS);
    const int64_t run = bbn_smaller(length, units), segments = bbn_smaller(units / run, layer->segments);
    const int64_t rows = (to - from) * block;
    memset(own->acc, 0, (size_t)(4 * rows * pixels));
    for (int pass = 0; pass < layer->passes; pass++) {
        for (int64_t s = 0; s < layer->segments; s += segments) {
            const int64_t count = bbn_smaller(segments, layer->segments - s);
            point_at_tables(j, tile, pixels, pass, s, count, pointers);
            for (int64_t u = 0; u < length; u += run)
                for (int64_t i = from; i < to; i++)
                    k->lut(weights + i * block_bytes + (s * length + u) * block, length * block, pointers,
                           u * unit_bytes, pixels, count, bbn_smaller(run, length - u),
                           own->acc + (i - from) * block, rows);
        }
        if (pass + 1 < layer->passes)
            for (int64_t i = 0; i < rows * pixels; i++) own->acc[i] *= 256;
    }
    for (int p = 0; p < pixels; p++)
        finish_rows(j, tile + p, from * block, bbn_smaller(rows, layer->op->shape.channels - from * block),
                    own->acc + p * rows);
}

static void xor_tile(const bbn_job *j, bbn_scratch *own, int64_t tile, int pixels, int64_t from, int64_t to) {
    const bbn_layer *layer = j->layer;
    const bbn_op *op = layer->op;
    const int64_t in = bbn_pixels(op->source), out = bbn_pixels(op->shape), block = layer->block;
    const int64_t taps = layer->segments, words = layer->length;
    const uint64_t *bits = (const uint64_t *)(void *)j->space->tables;
    const uint64_t *weights = (const uint64_t *)(void *)(layer->weights + j->network * layer->network_bytes);
    const int32_t *correction = layer->correction + j->network * taps * layer->rows;
    const uint64_t **pointers = (const uint64_t **)(void *)own->pointers;
    const int32_t fan_in = (int32_t)bbn_fan_in(op);
    for (int p = 0; p < pixels; p++)
        for (int64_t tap = 0; tap < taps; tap++) {
            const int64_t pixel = bbn_meet(op, (tile + p) % out, tap);
            const uint64_t *at = bits + ((tile + p) / out * in + pixel) * words;
            pointers[p * taps + tap] = pixel < 0 ? (const uint64_t *)(void *)j->space->zeros : at;
        }
    const int64_t rows = (to - from) * block;
    for (int64_t i = from; i < to; i++)
        j->layer->kernels->xor_count(weights + i * block * taps * words, pointers, pixels, taps, words,
                                   own->acc + (i - from) * block, rows);
    for (int p = 0; p < pixels; p++) {
        int32_t *acc = own->acc + p * rows;
        for (int64_t r = 0; r < rows; r++) acc[r] = fan_in - 2 * acc[r];
        for (int64_t tap = 0; tap < taps; tap++) /* bits of the padding are 0 and have counted as -1 */
            if (pointers[p * taps + tap] == (const uint64_t *)(void *)j->space->zeros)
                for (int64_t r = 0; r < rows; r++) acc[r] += correction[tap * layer->rows + from * block + r];
        finish_rows(j, tile + p, from * block, bbn_smaller(rows, op->shape.channels - from * block), acc);
    }
}

static void float_tile(const bbn_job *j, bbn_scratch *own, int64_t tile, int pixels, int64_t from, int64_t to) {
    const bbn_layer *layer = j->layer;
    const bbn_op *op = layer->op;
    const int64_t in = bbn_pixels(op->source), out = bbn_pixels(op->shape), taps = layer->segments;
    const int64_t channels = op->source.channels, outputs = op->shape.channels;
    const float **pointers = (const float **)(void *)own->pointers;
    const int64_t rows = (to - from) * layer->block;
    float *sums = (float *)(void *)own->acc;
    for (int p = 0; p < pixels; p++)
        for (int64_t tap = 0; tap < taps; tap++) {
            const int64_t pixel = bbn_meet(op, (tile + p) % out, tap);
            const float *at = j->x + ((tile + p) / out * in + pixel) * channels;
            pointers[p * taps + tap] = pixel < 0 ? j->space->zeros : at;
        }
    for (int64_t i = from; i < to; i++) {
        const float *weights = (const float *)(void *)layer->weights + i * layer->block * taps * channels;
        j->layer->kernels->real(weights, pointers, pixels, taps, channels, sums + (i - from) * layer->block, rows);
    }
    const int64_t row = from * layer->block, count = bbn_smaller(rows, outputs - row);
    for (int p = 0; p < pixels; p++)
        j->layer->kernels->affine(sums + p * rows, count, layer->scale + row, layer->shift + row, op->low, op->high,
                                j->out + (tile + p) * outputs + row);
}

static void product_tile(const bbn_job *j, int thread, int64_t tile, int pixels, int64_t from, int64_t to) {
    bbn_scratch *own = &j->space->scratch[thread];
    switch (j->layer->method) {
    case BBN_XOR: xor_tile(j, own, tile, pixels, from, to); break;
    case BBN_FLOAT: float_tile(j, own, tile, pixels, from, to); break;
    default: lut_tile(j, own, tile, pixels, from, to);
    }
}

static int tile_pixels(const bbn_job *j) {
    if (j->layer->method == BBN_FLOAT) return BBN_MAX_PIXELS;
    return j->layer->method == BBN_XOR ? j->layer->kernels->xor_pixels : j->layer->kernels->lut_pixels;
}

/* begin and end count tiles of pixels, or blocks of rows */
static void product(void *context, int64_t begin, int64_t end, int thread) {
    bbn_job *j = context;
    const int64_t total = j->batch * bbn_pixels(j->layer->op->shape), most = tile_pixels(j);
    const int64_t blocks = j->layer->rows / j->layer->block;
    if (j->by_rows)
        product_tile(j, thread, j->tile_begin, (int)bbn_smaller(most, total - j->tile_begin), begin, end);
    else
        for (int64_t i = begin; i < end; i++)
            product_tile(j, thread, i * most, (int)bbn_smaller(most, total - i * most), 0, blocks);
}

void bbn_share_product(bbn_job *j) {
    const int threads = bbn_pool_threads(j->space->pool);
    const int64_t most = tile_pixels(j), total = j->batch * bbn_pixels(j->layer->op->shape);
    const int64_t tiles = (total + most - 1) / most, blocks = j->layer->rows / j->layer->block;
    if (total * j->layer->rows * bbn_fan_in(j->layer->op) < SMALL_PRODUCT)
        product(j, 0, tiles, 0);
    else if (!(j->by_rows = threads > 1 && tiles < 4 * threads && blocks > 1))
        bbn_pool_run(j->space->pool, product, j, tiles, bbn_smaller(8, (tiles + 4 * threads - 1) / (4 * threads)));
    else
        for (j->tile_begin = 0; j->tile_begin < total; j->tile_begin += most)
            bbn_pool_run(j->space->pool, product, j, blocks, (blocks + threads - 1) / threads);
}

void bbn_direct(void *context, int64_t begin, int64_t end, int thread) {
    bbn_job *j = context;
    const bbn_layer *layer = j->layer;
    const bbn_op *op = layer->op;
    const int64_t in = bbn_pixels(op->source), out = bbn_pixels(op->shape), channels = op->source.channels;
    const int64_t outputs = op->shape.channels, members = channels / op->groups, taps = bbn_taps(op);
    const int32_t *levels = (const int32_t *)(void *)j->space->tables;
    const int8_t *weights = (const int8_t *)layer->weights + j->network * layer->network_bytes;
    int32_t *acc = j->space->scratch[thread].acc;
    for (int64_t i = begin; i < end; i++) {
        memset(acc, 0, (size_t)(4 * outputs));
        for (int64_t tap = 0; tap < taps; tap++) {
            const int64_t pixel = bbn_meet(op, i % out, tap);
            if (pixel < 0) continue;
            const int32_t *x = levels + (i / out * in + pixel) * channels;
            if (layer->length) {
                j->layer->kernels->signed_add(x, weights + tap * outputs, outputs, acc);
                continue;
            }
            for (int64_t o = 0; o < outputs; o++) {
                const int32_t *own = x + o / (outputs / op->groups) * members;
                const int8_t *w = weights + (o * taps + tap) * members;
                int32_t sum = 0;
                for (int64_t c = 0; c < members; c++) sum += w[c] * own[c];
                acc[o] += sum;
            }
        }
        finish_rows(j, i, 0, outputs, acc);
    }
}

void bbn_float_groups(void *context, int64_t begin, int64_t end, int thread) {
    bbn_job *j = context;
    const bbn_op *op = j->layer->op;
    const int64_t in = bbn_pixels(op->source), out = bbn_pixels(op->shape), channels = op->source.channels;
    const int64_t outputs = op->shape.channels, members = channels / op->groups, taps = bbn_taps(op);
    const float *weights = (const float *)(void *)j->layer->weights;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        for (int64_t o = 0; o < outputs; o++) {
            float sum = 0;
            for (int64_t tap = 0; tap < taps; tap++) {
                const int64_t pixel = bbn_meet(op, i % out, tap);
                if (pixel < 0) continue;
                const float *x = j->x + (i / out * in + pixel) * channels + o / (outputs / op->groups) * members;
                for (int64_t c = 0; c < members; c++) sum += x[c] * weights[(o * taps + tap) * members + c];
            }
            j->layer->kernels->affine(&sum, 1, j->layer->scale + o, j->layer->shift + o, op->low, op->high,
                                    j->out + i * outputs + o);
        }
}
