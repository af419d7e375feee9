/* Reading the input of a layer: levels, look-up tables or bits. */
#include <math.h>
#include <string.h>

#include "job.h"

void bbn_measure(void *context, int64_t begin, int64_t end, int thread) {
    bbn_job *j = context;
    const bbn_op *op = j->layer->op;
    const int64_t size = bbn_size(op->source), top = bbn_levels(op->activation);
    (void)thread;
    for (int64_t b = begin; b < end; b++) {
        bbn_scale *s = &j->scales[b];
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

static void quantize(const bbn_job *j, const float *x, int64_t n, const bbn_scale *s, int8_t *first, int8_t *second) {
    if (j->layer->op->activation == BBN_INT16)
        j->layer->kernels->quantize16(x, n, s->inverse, s->least, s->most, s->zero, first, second);
    else
        j->layer->kernels->quantize8(x, n, s->inverse, s->least, s->most, s->zero, first);
}

/* tables of all passes from a thread's levels, whose tail beyond `n` is set to 0 */
static void make_tables(const bbn_job *j, bbn_scratch *own, int64_t n, uint8_t *to) {
    for (int pass = 0; pass < j->layer->passes; pass++) {
        memset(own->levels[pass] + n, 0, (size_t)(j->layer->unit * j->layer->length - n));
        j->layer->kernels->lut_tables(own->levels[pass], j->layer->length, to + pass * j->layer->table_bytes);
    }
}

/* [input pixel] of all inputs, then the padding of each input */
void bbn_tables_of_pixels(void *context, int64_t begin, int64_t end, int thread) {
    bbn_job *j = context;
    bbn_scratch *own = &j->space->scratch[thread];
    const int64_t pixels = bbn_pixels(j->layer->op->source), channels = j->layer->op->source.channels;
    for (int64_t i = begin; i < end; i++)
        if (i < j->batch * pixels) {
            quantize(j, j->x + i * channels, channels, &j->scales[i / pixels], own->levels[0], own->levels[1]);
            make_tables(j, own, channels, j->space->tables + i * bbn_pixel_bytes(j->layer));
        } else {
            const int64_t b = i - j->batch * pixels;
            const float zero = 0;
            int8_t high = 0, low = 0;
            quantize(j, &zero, 1, &j->scales[b], &high, &low);
            memset(own->levels[0], high, (size_t)channels);
            memset(own->levels[1], low, (size_t)channels);
            make_tables(j, own, channels, j->space->padding + b * bbn_pixel_bytes(j->layer));
        }
}

void bbn_quantize_inputs(void *context, int64_t begin, int64_t end, int thread) {
    bbn_job *j = context;
    const int64_t pixels = bbn_pixels(j->layer->op->source), channels = j->layer->op->source.channels;
    (void)thread;
    while (begin < end) { /* whole runs of pixels that belong to one input */
        const int64_t b = begin / pixels, n = (bbn_smaller(end, (b + 1) * pixels) - begin) * channels;
        const int64_t at = begin * channels;
        quantize(j, j->x + at, n, &j->scales[b], j->space->gathered[0] + at, j->space->gathered[1] + at);
        begin = bbn_smaller(end, (b + 1) * pixels);
    }
}

void bbn_tables_of_windows(void *context, int64_t begin, int64_t end, int thread) {
    bbn_job *j = context;
    const bbn_op *op = j->layer->op;
    bbn_scratch *own = &j->space->scratch[thread];
    const int64_t in = bbn_pixels(op->source), out = bbn_pixels(op->shape), channels = op->source.channels;
    for (int64_t i = begin; i < end; i++) {
        const int64_t b = i / out;
        const float zero = 0;
        int8_t padding[2] = {0, 0};
        quantize(j, &zero, 1, &j->scales[b], &padding[0], &padding[1]);
        for (int64_t tap = 0; tap < bbn_taps(op); tap++) {
            const int64_t pixel = bbn_meet(op, i % out, tap);
            for (int pass = 0; pass < j->layer->passes; pass++) {
                int8_t *to = own->levels[pass] + tap * channels;
                if (pixel < 0)
                    memset(to, padding[pass], (size_t)channels);
                else
                    memcpy(to, j->space->gathered[pass] + (b * in + pixel) * channels, (size_t)channels);
            }
        }
        make_tables(j, own, bbn_fan_in(op), j->space->tables + i * bbn_pixel_bytes(j->layer));
    }
}

void bbn_bits_of_pixels(void *context, int64_t begin, int64_t end, int thread) {
    bbn_job *j = context;
    const int64_t channels = j->layer->op->source.channels;
    uint64_t *bits = (uint64_t *)(void *)j->space->tables;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        j->layer->kernels->signs(j->x + i * channels, channels, bits + i * j->layer->length);
}

void bbn_levels_of_pixels(void *context, int64_t begin, int64_t end, int thread) {
    bbn_job *j = context;
    const bbn_op *op = j->layer->op;
    const int64_t size = bbn_size(op->source), channels = op->source.channels;
    int32_t *levels = (int32_t *)(void *)j->space->tables;
    if (op->activation != BBN_BITS1) bbn_quantize_inputs(context, begin, end, thread);
    for (int64_t i = begin * channels; i < end * channels; i++)
        if (op->activation == BBN_BITS1)
            levels[i] = j->x[i] >= 0 ? 1 : -1;
        else if (op->activation == BBN_INT8)
            levels[i] = j->space->gathered[0][i] - j->scales[i / size].zero;
        else
            levels[i] = 256 * j->space->gathered[0][i] + j->space->gathered[1][i] - j->scales[i / size].zero;
}
