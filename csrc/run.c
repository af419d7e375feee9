/* One operation: quantise or take signs, multiply, scale; the work is shared among the threads of the pool. */
#include <math.h>
#include <string.h>

#include "workspace.h"

/* multiply-accumulates and activations that take less time than waking a thread */
enum { SMALL_PRODUCT = 1 << 22, SMALL_INPUT = 1 << 15 };

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
    int64_t bands; /* parts of an image, each with tables of its own */
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
        memset(own->levels[pass] + n, 0, (size_t)(j->layer->lut->unit * j->layer->length - n));
        j->layer->lut->tables(own->levels[pass], j->layer->length, to + pass * j->layer->table_bytes);
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

/* the levels of output pixel i of the batch (with one tap, of the input pixel there), with zeros behind them */
static void levels_of_window(const job *j, int64_t i, int8_t *const *to) {
    const bbn_layer *layer = j->layer;
    const bbn_op *op = layer->op;
    const int64_t channels = op->source.channels, b = i / bbn_pixels(op->shape), n = bbn_fan_in(op);
    if (layer->method == BBN_TAPS) {
        window w = window_at(op, i % bbn_pixels(op->shape), 0);
        const int64_t pixel = next_tap(op, &w);
        const float *x = pixel < 0 ? j->space->zeros : j->x + (b * bbn_pixels(op->source) + pixel) * channels;
        quantize(j, x, channels, &j->scales[b], to[0], to[1]);
    } else {
        const float zero = 0;
        int8_t padding[2] = {0, 0};
        quantize(j, &zero, 1, &j->scales[b], &padding[0], &padding[1]);
        for (int pass = 0; pass < layer->passes; pass++)
            gather(op, i % bbn_pixels(op->shape), j->space->gathered[pass] + b * bbn_size(op->source), padding[pass], to[pass]);
    }
    for (int pass = 0; pass < layer->passes; pass++) memset(to[pass] + n, 0, (size_t)(layer->lut->unit * layer->length - n));
}

static void tables_of_windows(void *context, int64_t begin, int64_t end, int thread) {
    job *j = context;
    bbn_scratch *own = &j->space->scratch[thread];
    for (int64_t i = begin; i < end; i++) {
        levels_of_window(j, i, own->levels);
        make_tables(j, own, bbn_fan_in(j->layer->op), j->space->tables + i * pixel_bytes(j->layer));
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
        else if (op->activation != BBN_INT16)
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

/* where the tables of each tap of each pixel are: among those that the threads share */
static void point_at_shared(const job *j, int64_t tile, int pixels, int64_t segment, int64_t segments,
                            const uint8_t **to) {
    const bbn_layer *layer = j->layer;
    const bbn_op *op = layer->op;
    const int64_t in = bbn_pixels(op->source), out = bbn_pixels(op->shape), bytes = pixel_bytes(layer);
    for (int p = 0; p < pixels; p++) {
        const int64_t b = (tile + p) / out;
        window w = window_at(op, (tile + p) % out, segment);
        for (int64_t s = 0; s < segments; s++) {
            to[p * segments + s] = j->space->tables + (tile + p) * bytes;
            if (layer->method == BBN_TAPS) {
                const int64_t pixel = next_tap(op, &w);
                to[p * segments + s] = pixel < 0 ? j->space->padding + b * bytes : j->space->tables + (b * in + pixel) * bytes;
            }
        }
    }
}

/* the same among the rows that a thread has made for itself; the pixels lie in one row */
static void point_at_ring(const job *j, const bbn_scratch *own, int64_t tile, int pixels, int64_t segment,
                          int64_t segments, const uint8_t **to) {
    const bbn_op *op = j->layer->op;
    const int64_t bytes = pixel_bytes(j->layer), width = op->source.width, ring = bbn_ring(op), step = op->stride[1];
    const uint8_t *padding = own->tables + ring * width * bytes;
    window w = window_at(op, tile % bbn_pixels(op->shape), segment);
    for (int64_t s = 0; s < segments; w.j = 0, w.i++) {
        const int64_t y = w.y + w.i * op->dilation[0], outside = y < 0 || y >= op->source.height;
        const uint8_t *row = own->tables + (outside ? 0 : y % ring * width * bytes);
        for (; s < segments && w.j < op->kernel[1]; w.j++, s++) {
            const int64_t x = w.x + w.j * op->dilation[1];
            if (!outside && x >= 0 && x + (pixels - 1) * step < width) {
                const uint8_t *table = row + x * bytes;
                for (int p = 0; p < pixels; p++) to[p * segments + s] = table + p * step * bytes;
            } else {
                for (int p = 0; p < pixels; p++) {
                    const int64_t at = x + p * step;
                    to[p * segments + s] = outside || at < 0 || at >= width ? padding : row + at * bytes;
                }
            }
        }
    }
}

/* blocks of rows [from, to) for `pixels` output pixels; the sums are in [pixel][row] */
static void lut_tile(const job *j, bbn_scratch *own, int64_t tile, int pixels, int64_t from, int64_t to) {
    const bbn_layer *layer = j->layer;
    const bbn_lut *lut = layer->lut;
    const int64_t block = layer->block, length = layer->length, size = lut->unit * length;
    const int64_t segment_bytes = length * lut->unit_bytes, block_bytes = layer->segments * segment_bytes;
    const uint8_t *weights = layer->weights + j->network * layer->network_bytes;
    const uint8_t **pointers = (const uint8_t **)(void *)own->pointers;
    const int64_t unit_bytes = lut->table_bytes;
    const int fresh = !j->by_rows && !j->bands; /* each part of the tables is made when it is wanted, and used once */
    int64_t units = smaller(BBN_CHUNK_BYTES / (unit_bytes * pixels), BBN_LUT_UNITS);
    if (to - from == 1 && !fresh) units = BBN_LUT_UNITS; /* one pass over the tables: they need not stay */
    const int64_t run = smaller(length, units), segments = smaller(units / run, layer->segments);
    const int64_t rows = (to - from) * block;
    for (int p = 0; fresh && p < pixels; p++)
        levels_of_window(j, tile + p, (int8_t *[]){own->levels[0] + p * size, own->levels[1] + p * size});
    memset(own->acc, 0, (size_t)(4 * rows * pixels));
    for (int pass = 0; pass < layer->passes; pass++) {
        for (int64_t s = 0; s < layer->segments; s += segments) {
            const int64_t count = smaller(segments, layer->segments - s);
            if (j->bands)
                point_at_ring(j, own, tile, pixels, s, count, pointers);
            else if (j->by_rows)
                point_at_shared(j, tile, pixels, s, count, pointers);
            for (int64_t i = 0; pass && !fresh && i < pixels * count; i++) pointers[i] += layer->table_bytes;
            for (int64_t u = 0; u < length; u += run) {
                const int64_t n = smaller(run, length - u);
                for (int p = 0; fresh && p < pixels; p++) {
                    pointers[p] = own->tables + p * run * unit_bytes;
                    lut->tables(own->levels[pass] + p * size + u * lut->unit, n, own->tables + p * run * unit_bytes);
                }
                for (int64_t i = from; i < to; i++)
                    lut->product(weights + i * block_bytes + s * segment_bytes + u * lut->unit_bytes, segment_bytes,
                                 pointers, fresh ? 0 : u * unit_bytes, pixels, count, n,
                                 own->acc + (i - from) * block, rows);
            }
        }
        if (pass + 1 < layer->passes)
            for (int64_t i = 0; i < rows * pixels; i++) own->acc[i] *= 256;
    }
    for (int p = 0; p < pixels; p++)
        finish_rows(j, tile + p, from * block, smaller(rows, layer->op->shape.channels - from * block),
                    own->acc + p * rows);
}

/* Bands of rows of the output, one after the other; the tables of a row of the input are made when the window comes to
 * it, in the place of a row that it has left. */
static void band(void *context, int64_t begin, int64_t end, int thread) {
    job *j = context;
    const bbn_layer *layer = j->layer;
    const bbn_op *op = layer->op;
    bbn_scratch *own = &j->space->scratch[thread];
    const int64_t bytes = pixel_bytes(layer), width = op->source.width, channels = op->source.channels;
    const int64_t ring = bbn_ring(op), blocks = layer->rows / layer->block, most = layer->lut->pixels;
    for (int64_t i = begin; i < end; i++) {
        const int64_t b = i / j->bands, part = i % j->bands;
        const int64_t first = op->shape.height * part / j->bands, last = op->shape.height * (part + 1) / j->bands;
        int64_t made = 0; /* rows of the input before this one are there, or are not wanted any more */
        quantize(j, j->space->zeros, channels, &j->scales[b], own->levels[0], own->levels[1]);
        make_tables(j, own, channels, own->tables + ring * width * bytes);
        for (int64_t y = first; y < last; y++) {
            const int64_t top = y * op->stride[0] - op->padding[0];
            const int64_t bottom = smaller(top + op->dilation[0] * (op->kernel[0] - 1) + 1, op->source.height);
            if (made < top) made = top;
            for (; made < bottom; made++)
                for (int64_t x = 0; x < width; x++) {
                    const float *from = j->x + ((b * op->source.height + made) * width + x) * channels;
                    quantize(j, from, channels, &j->scales[b], own->levels[0], own->levels[1]);
                    make_tables(j, own, channels, own->tables + (made % ring * width + x) * bytes);
                }
            for (int64_t x = 0; x < op->shape.width; x += most)
                lut_tile(j, own, (b * op->shape.height + y) * op->shape.width + x,
                         (int)smaller(most, op->shape.width - x), 0, blocks);
        }
    }
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
    if (j->layer->method == BBN_XOR) return j->layer->kernels->xor_pixels;
    return j->layer->lut ? j->layer->lut->pixels : 1;
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

static int is_small(const job *j) {
    return j->batch * bbn_pixels(j->layer->op->shape) * j->layer->rows * bbn_fan_in(j->layer->op) < SMALL_PRODUCT;
}

/* whether there are so few tiles of pixels that threads share the rows of each */
static int few_tiles(const job *j) {
    const int threads = bbn_pool_threads(j->space->pool);
    const int64_t most = tile_pixels(j), total = j->batch * bbn_pixels(j->layer->op->shape);
    return !is_small(j) && threads > 1 && (total + most - 1) / most < 4 * threads && j->layer->rows > j->layer->block;
}

/* parts of an image: as few as keep all threads busy, as each makes some tables again */
static int64_t bands(const job *j) {
    const int64_t threads = bbn_pool_threads(j->space->pool);
    return threads == 1 ? 1 : smaller(j->layer->op->shape.height, (threads + j->batch - 1) / j->batch);
}

static void share_product(job *j) {
    const int threads = bbn_pool_threads(j->space->pool);
    const int64_t most = tile_pixels(j), total = j->batch * bbn_pixels(j->layer->op->shape);
    const int64_t tiles = (total + most - 1) / most, blocks = j->layer->rows / j->layer->block;
    if (is_small(j))
        product(j, 0, tiles, 0);
    else if (!j->by_rows)
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

typedef float four __attribute__((vector_size(16), aligned(4), may_alias));
#if defined(__clang__) || __GNUC__ >= 12
#define PICK(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
typedef int four_indices __attribute__((vector_size(16)));
#define PICK(a, b, i, j, k, l) __builtin_shuffle(a, b, (four_indices){i, j, k, l})
#endif

/* 4 x 4 numbers */
static inline void transpose_square(const float *x, int64_t rows, int64_t columns, float *out) {
    const four a = *(const four *)x, b = *(const four *)(x + columns);
    const four c = *(const four *)(x + 2 * columns), d = *(const four *)(x + 3 * columns);
    const four ab = PICK(a, b, 0, 4, 1, 5), ab2 = PICK(a, b, 2, 6, 3, 7);
    const four cd = PICK(c, d, 0, 4, 1, 5), cd2 = PICK(c, d, 2, 6, 3, 7);
    *(four *)out = PICK(ab, cd, 0, 1, 4, 5), *(four *)(out + rows) = PICK(ab, cd, 2, 3, 6, 7);
    *(four *)(out + 2 * rows) = PICK(ab2, cd2, 0, 1, 4, 5), *(four *)(out + 3 * rows) = PICK(ab2, cd2, 2, 3, 6, 7);
}

void bbn_transpose(const float *x, int64_t rows, int64_t columns, float *out) {
    enum { SIDE = 16 }; /* squares that stay in the cache */
    for (int64_t r = 0; r < rows; r += SIDE)
        for (int64_t c = 0; c < columns; c += SIDE) {
            const int64_t to = smaller(r + SIDE, rows), last = smaller(c + SIDE, columns);
            const int64_t whole = r + (to - r) / 4 * 4, squares = c + (last - c) / 4 * 4;
            for (int64_t i = r; i < whole; i += 4)
                for (int64_t k = c; k < squares; k += 4)
                    transpose_square(x + i * columns + k, rows, columns, out + k * rows + i);
            for (int64_t i = r; i < to; i++)
                for (int64_t k = i < whole ? squares : c; k < last; k++) out[k * rows + i] = x[i * columns + k];
        }
}

void bbn_run_op(bbn_workspace *space, const bbn_layer *layer, const float *x, const float *y, int64_t batch,
                int64_t network, float *out) {
    const bbn_op *op = layer->op;
    bbn_layer own;
    if (op->rows > 1) own = bbn_layer_of(layer, network), layer = &own;
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
    j.by_rows = layer->method != BBN_PLAIN && few_tiles(&j);
    switch (layer->method) {
    case BBN_TAPS:
        if (j.by_rows)
            bbn_pool_run(pool, tables_of_pixels, &j, in + (op->padding[0] || op->padding[1] ? batch : 0), grain);
        else if (bbn_taps(op) > 1)
            j.bands = is_small(&j) ? 1 : bands(&j);
        if (!j.bands)
            share_product(&j);
        else if (is_small(&j))
            band(&j, 0, batch, 0);
        else
            bbn_pool_run(pool, band, &j, batch * j.bands, 1);
        break;
    case BBN_GATHER:
        bbn_pool_run(pool, quantize_inputs, &j, in, grain);
        if (j.by_rows) bbn_pool_run(pool, tables_of_windows, &j, to, grain);
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
