/* One operation: quantise or take signs, multiply, scale; the work is shared among the threads of the pool. */
#include <math.h>
#include <string.h>

#include "workspace.h"

/* multiply-accumulates and activations that take less time than waking a thread */
enum { SMALL_PRODUCT = 1 << 22, SMALL_INPUT = 1 << 15 };
/* of tables: all rows pass over them, and the weights that stream by must not drive them out of the first-level cache */
enum { CHUNK_BYTES = 16 << 10 };

/* step and zero of one input, and the clip limits that follow from them */
typedef struct {
    float step, inverse, least, most;
    int32_t zero;
} scale;

typedef struct {
    bbn_workspace *space;
    const bbn_layer *layer;
    const float *x, *y;
    float *out;
    int64_t batch, network;
    int by_rows; /* threads share the rows of one tile of pixels, not the tiles */
    int64_t tile_begin;
    scale scales[BBN_MAX_BATCH];
} job;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Goes over the taps of one output pixel: divisions take longer than the little that is done with a tap. */
typedef struct {
    int64_t y, x, i, j; /* of the first tap in the image; the tap */
} window;

static window window_at(const bbn_op *op, int64_t pixel, int64_t tap) {
    return (window){pixel / op->shape.width * op->stride[0] - op->padding[0],
                    pixel % op->shape.width * op->stride[1] - op->padding[1], tap / op->kernel[1], tap % op->kernel[1]};
}

/* index of the input pixel that the next tap meets, or -1 in the padding */
static inline int64_t next_tap(const bbn_op *op, window *w) {
    const int64_t y = w->y + w->i * op->dilation[0], x = w->x + w->j * op->dilation[1];
    if (++w->j == op->kernel[1]) w->j = 0, w->i++;
    return y < 0 || x < 0 || y >= op->source.height || x >= op->source.width ? -1 : y * op->source.width + x;
}

/* ---- reading the input ---- */

static void measure(void *context, int64_t begin, int64_t end, int thread) {
    job *j = context;
    const bbn_op *op = j->layer->op;
    const int64_t size = bbn_size(op->source), top = bbn_levels(op->activation);
    (void)thread;
    for (int64_t b = begin; b < end; b++) {
        scale *s = &j->scales[b];
        s->step = op->step, s->zero = op->zero;
        if (!op->fixed) {
            float low = 0, high = 0;
            j->layer->kernels->range(j->x + b * size, size, &low, &high);
            s->step = (high - low) / (float)(2 * top);
            if (!(s->step > 1e-30f)) s->step = 1e-30f;
            s->zero = (int32_t)rintf(bbn_clip(-low * (1.0f / s->step), 0, (float)(2 * top))) - (int32_t)top;
        }
        s->inverse = 1.0f / s->step;
        s->least = (float)(-top - s->zero), s->most = (float)(top - s->zero);
    }
}

static void quantize(const job *j, const float *x, int64_t n, const scale *s, int8_t *first, int8_t *second) {
    if (j->layer->op->activation == BBN_INT16)
        j->layer->kernels->quantize16(x, n, s->inverse, s->least, s->most, s->zero, first, second);
    else
        j->layer->kernels->quantize8(x, n, s->inverse, s->least, s->most, s->zero, first);
}

/* tables of all passes from a thread's levels, whose tail beyond `n` is set to 0 */
static void make_tables(const job *j, bbn_scratch *own, int64_t n, uint8_t *to) {
    for (int pass = 0; pass < j->layer->passes; pass++) {
        memset(own->levels[pass] + n, 0, (size_t)(j->layer->unit * j->layer->length - n));
        j->layer->kernels->lut_tables(own->levels[pass], j->layer->length, to + pass * j->layer->table_bytes);
    }
}

static int64_t pixel_bytes(const bbn_layer *layer) { return layer->table_bytes * layer->passes; }

/* [input pixel] of all inputs, then the padding of each input */
static void tables_of_pixels(void *context, int64_t begin, int64_t end, int thread) {
    job *j = context;
    bbn_scratch *own = &j->space->scratch[thread];
    const int64_t pixels = bbn_pixels(j->layer->op->source), channels = j->layer->op->source.channels;
    for (int64_t i = begin; i < end; i++)
        if (i < j->batch * pixels) {
            quantize(j, j->x + i * channels, channels, &j->scales[i / pixels], own->levels[0], own->levels[1]);
            make_tables(j, own, channels, j->space->tables + i * pixel_bytes(j->layer));
        } else {
            const int64_t b = i - j->batch * pixels;
            const float zero = 0;
            int8_t high = 0, low = 0;
            quantize(j, &zero, 1, &j->scales[b], &high, &low);
            memset(own->levels[0], high, (size_t)channels);
            memset(own->levels[1], low, (size_t)channels);
            make_tables(j, own, channels, j->space->padding + b * pixel_bytes(j->layer));
        }
}

static void quantize_inputs(void *context, int64_t begin, int64_t end, int thread) {
    job *j = context;
    const int64_t pixels = bbn_pixels(j->layer->op->source), channels = j->layer->op->source.channels;
    (void)thread;
    while (begin < end) { /* whole runs of pixels that belong to one input */
        const int64_t b = begin / pixels, n = (smaller(end, (b + 1) * pixels) - begin) * channels;
        const int64_t at = begin * channels;
        quantize(j, j->x + at, n, &j->scales[b], j->space->gathered[0] + at, j->space->gathered[1] + at);
        begin = smaller(end, (b + 1) * pixels);
    }
}

/* the levels that all taps of an output pixel meet; where a row of them lies in the image it is copied whole */
static void gather(const bbn_op *op, int64_t pixel, const int8_t *levels, int8_t padding, int8_t *to) {
    const int64_t channels = op->source.channels, width = op->source.width, row = op->kernel[1] * channels;
    const window w = window_at(op, pixel, 0);
    const int whole = op->dilation[1] == 1 && w.x >= 0 && w.x + op->kernel[1] <= width;
    for (int64_t i = 0; i < op->kernel[0]; i++, to += row) {
        const int64_t y = w.y + i * op->dilation[0];
        if (y < 0 || y >= op->source.height)
            memset(to, padding, (size_t)row);
        else if (whole)
            memcpy(to, levels + (y * width + w.x) * channels, (size_t)row);
        else
            for (int64_t j = 0; j < op->kernel[1]; j++) {
                const int64_t x = w.x + j * op->dilation[1], outside = x < 0 || x >= width;
                for (int64_t c = 0; c < channels; c++)
                    to[j * channels + c] = outside ? padding : levels[(y * width + x) * channels + c];
            }
    }
}

static void tables_of_windows(void *context, int64_t begin, int64_t end, int thread) {
    job *j = context;
    const bbn_op *op = j->layer->op;
    bbn_scratch *own = &j->space->scratch[thread];
    const int64_t out = bbn_pixels(op->shape);
    for (int64_t i = begin; i < end; i++) {
        const int64_t b = i / out;
        const float zero = 0;
        int8_t padding[2] = {0, 0};
        quantize(j, &zero, 1, &j->scales[b], &padding[0], &padding[1]);
        for (int pass = 0; pass < j->layer->passes; pass++)
            gather(op, i % out, j->space->gathered[pass] + b * bbn_size(op->source), padding[pass], own->levels[pass]);
        make_tables(j, own, bbn_fan_in(op), j->space->tables + i * pixel_bytes(j->layer));
    }
}

static void bits_of_pixels(void *context, int64_t begin, int64_t end, int thread) {
    job *j = context;
    const int64_t channels = j->layer->op->source.channels;
    uint64_t *bits = (uint64_t *)(void *)j->space->tables;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        j->layer->kernels->signs(j->x + i * channels, channels, bits + i * j->layer->length);
}

static void levels_of_pixels(void *context, int64_t begin, int64_t end, int thread) {
    job *j = context;
    const bbn_op *op = j->layer->op;
    const int64_t size = bbn_size(op->source), channels = op->source.channels;
    int32_t *levels = (int32_t *)(void *)j->space->tables;
    if (op->activation != BBN_BITS1) quantize_inputs(context, begin, end, thread);
    for (int64_t i = begin * channels; i < end * channels; i++)
        if (op->activation == BBN_BITS1)
            levels[i] = j->x[i] >= 0 ? 1 : -1;
        else if (op->activation == BBN_INT8)
            levels[i] = j->space->gathered[0][i] - j->scales[i / size].zero;
        else
            levels[i] = 256 * j->space->gathered[0][i] + j->space->gathered[1][i] - j->scales[i / size].zero;
}

/* ---- products ---- */

static void finish_rows(const job *j, int64_t pixel, int64_t row, int64_t count, int32_t *acc) {
    const bbn_layer *layer = j->layer;
    const bbn_op *op = layer->op;
    const scale *s = &j->scales[pixel / bbn_pixels(op->shape)];
    const int lut = layer->method == BBN_TAPS || layer->method == BBN_GATHER;
    const int32_t *correction = lut ? layer->correction + j->network * layer->rows + row : NULL;
    const bbn_epilogue e = {correction, layer->scale + row, layer->shift + row, s->step, op->low, op->high, s->zero};
    j->layer->kernels->finish(acc, count, &e, j->out + pixel * op->shape.channels + row);
}

static void point_at_tables(const job *j, int64_t tile, int pixels, int pass, int64_t segment, int64_t segments,
                            const uint8_t **to) {
    const bbn_layer *layer = j->layer;
    const bbn_op *op = layer->op;
    const int64_t in = bbn_pixels(op->source), out = bbn_pixels(op->shape), bytes = pixel_bytes(layer);
    for (int p = 0; p < pixels; p++) {
        const int64_t b = (tile + p) / out;
        window w = window_at(op, (tile + p) % out, segment);
        for (int64_t s = 0; s < segments; s++) {
            const uint8_t *table = j->space->tables + (tile + p) * bytes;
            if (layer->method == BBN_TAPS) {
                const int64_t pixel = next_tap(op, &w);
                table = pixel < 0 ? j->space->padding + b * bytes : j->space->tables + (b * in + pixel) * bytes;
            }
            to[p * segments + s] = table + pass * layer->table_bytes;
        }
    }
}

/* blocks of rows [from, to) for `pixels` output pixels; the sums are in [pixel][row] */
static void lut_tile(const job *j, bbn_scratch *own, int64_t tile, int pixels, int64_t from, int64_t to) {
    const bbn_layer *layer = j->layer;
    const bbn_kernels *k = j->layer->kernels;
    const int64_t block = layer->block, length = layer->length;
    const int64_t block_bytes = layer->segments * length * block;
    const uint8_t *weights = layer->weights + j->network * layer->network_bytes;
    const uint8_t **pointers = (const uint8_t **)(void *)own->pointers;
    const int64_t unit_bytes = k->lut_table_bytes, units = smaller(CHUNK_BYTES / (unit_bytes * pixels), BBN_LUT_UNITS);
    const int64_t run = smaller(length, units), segments = smaller(units / run, layer->segments);
    const int64_t rows = (to - from) * block;
    memset(own->acc, 0, (size_t)(4 * rows * pixels));
    for (int pass = 0; pass < layer->passes; pass++) {
        for (int64_t s = 0; s < layer->segments; s += segments) {
            const int64_t count = smaller(segments, layer->segments - s);
            point_at_tables(j, tile, pixels, pass, s, count, pointers);
            for (int64_t u = 0; u < length; u += run)
                for (int64_t i = from; i < to; i++)
                    k->lut(weights + i * block_bytes + (s * length + u) * block, length * block, pointers,
                           u * unit_bytes, pixels, count, smaller(run, length - u),
                           own->acc + (i - from) * block, rows);
        }
        if (pass + 1 < layer->passes)
            for (int64_t i = 0; i < rows * pixels; i++) own->acc[i] *= 256;
    }
    for (int p = 0; p < pixels; p++)
        finish_rows(j, tile + p, from * block, smaller(rows, layer->op->shape.channels - from * block),
                    own->acc + p * rows);
}

static void xor_tile(const job *j, bbn_scratch *own, int64_t tile, int pixels, int64_t from, int64_t to) {
    const bbn_layer *layer = j->layer;
    const bbn_op *op = layer->op;
    const int64_t in = bbn_pixels(op->source), out = bbn_pixels(op->shape), block = layer->block;
    const int64_t taps = layer->segments, words = layer->length;
    const uint64_t *bits = (const uint64_t *)(void *)j->space->tables;
    const uint64_t *weights = (const uint64_t *)(void *)(layer->weights + j->network * layer->network_bytes);
    const int32_t *correction = layer->correction + j->network * taps * layer->rows;
    const uint64_t **pointers = (const uint64_t **)(void *)own->pointers;
    const int32_t fan_in = (int32_t)bbn_fan_in(op);
    for (int p = 0; p < pixels; p++) {
        window w = window_at(op, (tile + p) % out, 0);
        const uint64_t *input = bits + (tile + p) / out * in * words;
        for (int64_t tap = 0; tap < taps; tap++) {
            const int64_t pixel = next_tap(op, &w);
            pointers[p * taps + tap] = pixel < 0 ? (const uint64_t *)(void *)j->space->zeros : input + pixel * words;
        }
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
        finish_rows(j, tile + p, from * block, smaller(rows, op->shape.channels - from * block), acc);
    }
}

static void float_tile(const job *j, bbn_scratch *own, int64_t tile, int pixels, int64_t from, int64_t to) {
    const bbn_layer *layer = j->layer;
    const bbn_op *op = layer->op;
    const int64_t in = bbn_pixels(op->source), out = bbn_pixels(op->shape), taps = layer->segments;
    const int64_t channels = op->source.channels, outputs = op->shape.channels;
    const float **pointers = (const float **)(void *)own->pointers;
    const int64_t rows = (to - from) * layer->block;
    float *sums = (float *)(void *)own->acc;
    for (int p = 0; p < pixels; p++) {
        window w = window_at(op, (tile + p) % out, 0);
        const float *input = j->x + (tile + p) / out * in * channels;
        for (int64_t tap = 0; tap < taps; tap++) {
            const int64_t pixel = next_tap(op, &w);
            pointers[p * taps + tap] = pixel < 0 ? j->space->zeros : input + pixel * channels;
        }
    }
    for (int64_t i = from; i < to; i++) {
        const float *weights = (const float *)(void *)layer->weights + i * layer->block * taps * channels;
        j->layer->kernels->real(weights, pointers, pixels, taps, channels, sums + (i - from) * layer->block, rows);
    }
    const int64_t row = from * layer->block, count = smaller(rows, outputs - row);
    for (int p = 0; p < pixels; p++)
        j->layer->kernels->affine(sums + p * rows, count, layer->scale + row, layer->shift + row, op->low, op->high,
                                j->out + (tile + p) * outputs + row);
}

static void product_tile(const job *j, int thread, int64_t tile, int pixels, int64_t from, int64_t to) {
    bbn_scratch *own = &j->space->scratch[thread];
    switch (j->layer->method) {
    case BBN_XOR: xor_tile(j, own, tile, pixels, from, to); break;
    case BBN_FLOAT: float_tile(j, own, tile, pixels, from, to); break;
    default: lut_tile(j, own, tile, pixels, from, to);
    }
}

static int tile_pixels(const job *j) {
    if (j->layer->method == BBN_FLOAT) return BBN_MAX_PIXELS;
    return j->layer->method == BBN_XOR ? j->layer->kernels->xor_pixels : j->layer->kernels->lut_pixels;
}

/* begin and end count tiles of pixels, or blocks of rows */
static void product(void *context, int64_t begin, int64_t end, int thread) {
    job *j = context;
    const int64_t total = j->batch * bbn_pixels(j->layer->op->shape), most = tile_pixels(j);
    const int64_t blocks = j->layer->rows / j->layer->block;
    if (j->by_rows)
        product_tile(j, thread, j->tile_begin, (int)smaller(most, total - j->tile_begin), begin, end);
    else
        for (int64_t i = begin; i < end; i++)
            product_tile(j, thread, i * most, (int)smaller(most, total - i * most), 0, blocks);
}

static void share_product(job *j) {
    const int threads = bbn_pool_threads(j->space->pool);
    const int64_t most = tile_pixels(j), total = j->batch * bbn_pixels(j->layer->op->shape);
    const int64_t tiles = (total + most - 1) / most, blocks = j->layer->rows / j->layer->block;
    if (total * j->layer->rows * bbn_fan_in(j->layer->op) < SMALL_PRODUCT)
        product(j, 0, tiles, 0);
    else if (!(j->by_rows = threads > 1 && tiles < 4 * threads && blocks > 1))
        bbn_pool_run(j->space->pool, product, j, tiles, smaller(8, (tiles + 4 * threads - 1) / (4 * threads)));
    else
        for (j->tile_begin = 0; j->tile_begin < total; j->tile_begin += most)
            bbn_pool_run(j->space->pool, product, j, blocks, (blocks + threads - 1) / threads);
}

static void direct(void *context, int64_t begin, int64_t end, int thread) {
    job *j = context;
    const bbn_layer *layer = j->layer;
    const bbn_op *op = layer->op;
    const int64_t in = bbn_pixels(op->source), out = bbn_pixels(op->shape), channels = op->source.channels;
    const int64_t outputs = op->shape.channels, members = channels / op->groups, taps = bbn_taps(op);
    const int32_t *levels = (const int32_t *)(void *)j->space->tables;
    const int8_t *weights = (const int8_t *)layer->weights + j->network * layer->network_bytes;
    int32_t *acc = j->space->scratch[thread].acc;
    for (int64_t i = begin; i < end; i++) {
        memset(acc, 0, (size_t)(4 * outputs));
        window at = window_at(op, i % out, 0);
        for (int64_t tap = 0; tap < taps; tap++) {
            const int64_t pixel = next_tap(op, &at);
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

static void float_groups(void *context, int64_t begin, int64_t end, int thread) {
    job *j = context;
    const bbn_op *op = j->layer->op;
    const int64_t in = bbn_pixels(op->source), out = bbn_pixels(op->shape), channels = op->source.channels;
    const int64_t outputs = op->shape.channels, members = channels / op->groups, taps = bbn_taps(op);
    const float *weights = (const float *)(void *)j->layer->weights;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        for (int64_t o = 0; o < outputs; o++) {
            float sum = 0;
            window at = window_at(op, i % out, 0);
            for (int64_t tap = 0; tap < taps; tap++) {
                const int64_t pixel = next_tap(op, &at);
                if (pixel < 0) continue;
                const float *x = j->x + (i / out * in + pixel) * channels + o / (outputs / op->groups) * members;
                for (int64_t c = 0; c < members; c++) sum += x[c] * weights[(o * taps + tap) * members + c];
            }
            j->layer->kernels->affine(&sum, 1, j->layer->scale + o, j->layer->shift + o, op->low, op->high,
                                    j->out + i * outputs + o);
        }
}

/* ---- operations without weights ---- */

static void pool_pixels(void *context, int64_t begin, int64_t end, int thread) {
    job *j = context;
    const bbn_op *op = j->layer->op;
    const bbn_kernels *k = j->layer->kernels;
    const int64_t in = bbn_pixels(op->source), out = bbn_pixels(op->shape), channels = op->source.channels;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        float *total = j->out + i * channels;
        for (int64_t c = 0; c < channels; c++) total[c] = op->kind == BBN_MAX_POOL ? -INFINITY : 0;
        window at = window_at(op, i % out, 0);
        for (int64_t tap = 0; tap < bbn_taps(op); tap++) {
            const int64_t pixel = next_tap(op, &at);
            if (pixel < 0) continue;
            const float *x = j->x + (i / out * in + pixel) * channels;
            (op->kind == BBN_MAX_POOL ? k->maximum : k->accumulate)(x, channels, total);
        }
        if (op->kind == BBN_AVG_POOL) k->multiply(total, channels, (float)(1.0 / (double)bbn_taps(op)), op->low, op->high);
    }
}

static void each_pixel(void *context, int64_t begin, int64_t end, int thread) {
    job *j = context;
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
    job *j = context;
    const bbn_shape from = j->layer->op->source;
    (void)thread;
    for (int64_t b = begin; b < end; b++)
        bbn_transpose(j->x + b * bbn_size(from), bbn_pixels(from), from.channels, j->out + b * bbn_size(from));
}

void bbn_transpose(const float *x, int64_t rows, int64_t columns, float *out) {
    enum { SIDE = 16 }; /* squares that stay in the cache */
    for (int64_t r = 0; r < rows; r += SIDE)
        for (int64_t c = 0; c < columns; c += SIDE)
            for (int64_t i = r; i < smaller(r + SIDE, rows); i++)
                for (int64_t k = c; k < smaller(c + SIDE, columns); k++) out[k * rows + i] = x[i * columns + k];
}

void bbn_run_op(bbn_workspace *space, const bbn_layer *layer, const float *x, const float *y, int64_t batch,
                int64_t network, float *out) {
    const bbn_op *op = layer->op;
    job j = {.space = space, .layer = layer, .x = x, .y = y, .out = out, .batch = batch};
    j.network = op->kind == BBN_BINARY ? network : 0;
    bbn_pool *pool = space->pool;
    const int64_t in = batch * bbn_pixels(op->source), to = batch * bbn_pixels(op->shape);
    const int64_t grain = 1 + SMALL_INPUT / op->source.channels;
    const int same = bbn_size(op->source) == bbn_size(op->other);
    if (op->kind == BBN_BINARY && op->activation != BBN_BITS1) {
        bbn_pool_run(pool, measure, &j, batch, 1);
    } else {
        for (int64_t b = 0; b < batch; b++) j.scales[b] = (scale){.step = 1};
    }
    switch (layer->method) {
    case BBN_TAPS:
        bbn_pool_run(pool, tables_of_pixels, &j, in + (op->padding[0] || op->padding[1] ? batch : 0), grain);
        share_product(&j);
        break;
    case BBN_GATHER:
        bbn_pool_run(pool, quantize_inputs, &j, in, grain);
        bbn_pool_run(pool, tables_of_windows, &j, to, grain);
        share_product(&j);
        break;
    case BBN_XOR:
        bbn_pool_run(pool, bits_of_pixels, &j, in, grain);
        share_product(&j);
        break;
    case BBN_DIRECT:
        bbn_pool_run(pool, levels_of_pixels, &j, in, grain);
        bbn_pool_run(pool, direct, &j, to, grain);
        break;
    case BBN_FLOAT: share_product(&j); break;
    case BBN_FLOAT_GROUPS: bbn_pool_run(pool, float_groups, &j, to, grain); break;
    case BBN_PLAIN:
        if (op->kind == BBN_MAX_POOL || op->kind == BBN_AVG_POOL)
            bbn_pool_run(pool, pool_pixels, &j, to, grain);
        else if (op->kind == BBN_FLATTEN)
            bbn_pool_run(pool, flatten, &j, batch, 1 + SMALL_INPUT / bbn_size(op->source));
        else if (op->kind == BBN_CLAMP || op->kind == BBN_AFFINE || op->kind == BBN_SIGN || (op->kind == BBN_ADD && same))
            bbn_pool_run(pool, each_pixel, &j, in, grain);
        else
            bbn_run_float(space, layer, x, y, batch, out);
    }
}
