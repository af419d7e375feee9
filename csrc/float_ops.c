/* Operations on float values: functions, norms, products of two values, and those that only move numbers. */
#include <math.h>
#include <string.h>

#include "workspace.h"

enum { BBN_SIGMOID_INDEX, BBN_TANH_INDEX }; /* of functions.h */
enum { SMALL = 1 << 14 }; /* numbers that take less time than waking a thread */

typedef struct {
    bbn_workspace *space;
    const bbn_layer *layer;
    const float *x, *y;
    float *out;
} job;

/* Parts of [0, count): as many together as make up for waking a thread, each of `size` numbers. */
static void share(job *j, bbn_task task, int64_t count, int64_t size) {
    bbn_pool_run(j->space->pool, task, j, count, 1 + SMALL / size);
}

static void functions(void *context, int64_t begin, int64_t end, int thread) {
    job *j = context;
    const bbn_op *op = j->layer->op;
    (void)thread;
    j->layer->kernels->function(op->variant, j->x + begin, end - begin, op->parameter, j->out + begin);
}

static void softmaxes(void *context, int64_t begin, int64_t end, int thread) {
    job *j = context;
    const int64_t n = j->layer->op->source.channels;
    (void)thread;
    for (int64_t i = begin; i < end; i++) j->layer->kernels->softmax(j->x + i * n, n, j->out + i * n);
}

static void normalize_pixels(void *context, int64_t begin, int64_t end, int thread) {
    job *j = context;
    const bbn_layer *l = j->layer;
    const bbn_op *op = l->op;
    const int64_t channels = op->source.channels, size = channels / op->groups;
    (void)thread;
    for (int64_t i = begin * channels; i < end * channels; i += channels) {
        for (int64_t c = 0; c < channels; c += size)
            l->kernels->normalize(j->x + i + c, size, op->variant & 1, op->parameter, j->out + i + c);
        l->kernels->affine(j->out + i, channels, l->scale, l->shift, op->low, op->high, j->out + i);
    }
}

/* a group of one input: its numbers are put side by side first */
static void normalize_groups(void *context, int64_t begin, int64_t end, int thread) {
    job *j = context;
    const bbn_layer *l = j->layer;
    const bbn_op *op = l->op;
    const int64_t channels = op->source.channels, size = channels / op->groups, pixels = bbn_pixels(op->source);
    float *from = (float *)(void *)j->space->scratch[thread].acc, *to = from + size * pixels;
    for (int64_t i = begin; i < end; i++) {
        const int64_t first = i % op->groups * size, at = i / op->groups * pixels * channels + first;
        for (int64_t p = 0; p < pixels; p++)
            memcpy(from + p * size, j->x + at + p * channels, (size_t)(4 * size));
        l->kernels->normalize(from, size * pixels, op->variant & 1, op->parameter, to);
        for (int64_t p = 0; p < pixels; p++)
            l->kernels->affine(to + p * size, size, l->scale + first, l->shift + first, op->low, op->high,
                               j->out + at + p * channels);
    }
}

/* x (K, H, M) and y, (K, H, N) if transposed, else (N, H, K): row by row of H, with the kernel of real layers */
static void matrix_products(void *context, int64_t begin, int64_t end, int thread) {
    job *j = context;
    const bbn_op *op = j->layer->op;
    const int64_t inner = op->source.channels, rows = op->source.width, columns = op->shape.channels;
    const int64_t padded = bbn_round_up(columns, BBN_REAL_ROWS);
    float *packed = (float *)(void *)j->space->scratch[thread].acc, *sums = packed + padded * inner;
    for (int64_t i = begin; i < end; i++) {
        const float *x = j->x + i * rows * inner, *y = j->y + i * columns * inner;
        float *out = j->out + i * rows * columns;
        for (int64_t n = 0; n < padded; n++)
            for (int64_t k = 0; k < inner; k++)
                packed[(n / BBN_REAL_ROWS * inner + k) * BBN_REAL_ROWS + n % BBN_REAL_ROWS] =
                    n >= columns ? 0 : op->variant ? y[n * inner + k] : y[k * columns + n];
        for (int64_t m = 0; m < rows; m += BBN_MAX_PIXELS) {
            const int count = (int)(rows - m < BBN_MAX_PIXELS ? rows - m : BBN_MAX_PIXELS);
            const float *pixels[BBN_MAX_PIXELS];
            for (int p = 0; p < count; p++) pixels[p] = x + (m + p) * inner;
            for (int64_t n = 0; n < padded; n += BBN_REAL_ROWS)
                j->layer->kernels->real(packed + n * inner, pixels, count, 1, inner, sums + n, padded);
            for (int p = 0; p < count; p++) memcpy(out + (m + p) * columns, sums + p * padded, (size_t)(4 * columns));
        }
    }
}

/* x + y or x * y, y with sizes of 1 where it is the same for all */
static void broadcast(void *context, int64_t begin, int64_t end, int thread) {
    job *j = context;
    const bbn_op *op = j->layer->op;
    const bbn_kernels *k = j->layer->kernels;
    const bbn_shape a = op->source, b = op->other;
    const int multiply = op->kind == BBN_MULTIPLY;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const int64_t batch = i / bbn_pixels(a), row = i / a.width % a.height, column = i % a.width;
        const int64_t pixel = (batch * b.height + (b.height > 1 ? row : 0)) * b.width + (b.width > 1 ? column : 0);
        const float *x = j->x + i * a.channels, *y = j->y + pixel * b.channels;
        float *out = j->out + i * a.channels;
        if (b.channels == a.channels)
            (multiply ? k->product : k->add)(x, y, a.channels, op->low, op->high, out);
        else
            for (int64_t c = 0; c < a.channels; c++)
                out[c] = bbn_clip(multiply ? x[c] * y[0] : x[c] + y[0], op->low, op->high);
    }
}

static void concatenate(void *context, int64_t begin, int64_t end, int thread) {
    job *j = context;
    const bbn_op *op = j->layer->op;
    const bbn_shape a = op->source, b = op->other;
    const int64_t each = op->variant == 0 ? 1 : op->variant == 1 ? a.width * a.channels : a.channels;
    const int64_t first = each * (op->variant == 0 ? a.channels : op->variant == 1 ? a.height : a.width);
    const int64_t second = each * (op->variant == 0 ? b.channels : op->variant == 1 ? b.height : b.width);
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        float *out = j->out + i * (first + second);
        memcpy(out, j->x + i * first, (size_t)(4 * first));
        memcpy(out + first, j->y + i * second, (size_t)(4 * second));
    }
}

/* begin and end count runs of the last dimension */
static void view(void *context, int64_t begin, int64_t end, int thread) {
    job *j = context;
    const bbn_op *op = j->layer->op;
    const int64_t run = op->sizes[BBN_MAX_DIMS - 1], step = op->strides[BBN_MAX_DIMS - 1];
    const int64_t runs = bbn_size(op->shape) / run;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        int64_t left = i % runs, at = op->offset;
        for (int d = BBN_MAX_DIMS - 2; d >= 0; d--) at += left % op->sizes[d] * op->strides[d], left /= op->sizes[d];
        const float *x = j->x + i / runs * bbn_size(op->source) + at;
        float *out = j->out + i * run;
        if (step == 1)
            memcpy(out, x, (size_t)(4 * run));
        else
            for (int64_t n = 0; n < run; n++) out[n] = x[n * step];
    }
}

static void constant(void *context, int64_t begin, int64_t end, int thread) {
    job *j = context;
    const int64_t size = bbn_size(j->layer->op->shape);
    (void)thread;
    for (int64_t i = begin; i < end; i++) memcpy(j->out + i * size, j->layer->weights, (size_t)(4 * size));
}

void bbn_run_float(bbn_workspace *space, const bbn_layer *layer, const float *x, const float *y, int64_t batch,
                   float *out) {
    const bbn_op *op = layer->op;
    job j = {space, layer, x, y, out};
    const int64_t pixels = batch * bbn_pixels(op->source), channels = op->source.channels;
    switch (op->kind) {
    case BBN_FUNCTION: share(&j, functions, pixels * channels, 1); break;
    case BBN_SOFTMAX: share(&j, softmaxes, pixels, channels); break;
    case BBN_NORMALIZE:
        if (op->variant & 2)
            share(&j, normalize_groups, batch * op->groups, bbn_size(op->source) / op->groups);
        else
            share(&j, normalize_pixels, pixels, channels);
        break;
    case BBN_MATMUL:
        share(&j, matrix_products, batch * op->source.height, op->source.width * op->shape.channels * channels / 16 + 1);
        break;
    case BBN_ADD:
    case BBN_MULTIPLY: share(&j, broadcast, pixels, channels); break;
    case BBN_CONCAT: {
        const int64_t parts = op->variant == 0 ? pixels : op->variant == 1 ? batch : batch * op->source.height;
        share(&j, concatenate, parts, batch * bbn_size(op->shape) / parts);
        break;
    }
    case BBN_VIEW: {
        const int64_t run = op->sizes[BBN_MAX_DIMS - 1];
        share(&j, view, batch * bbn_size(op->shape) / run, run);
        break;
    }
    case BBN_CONSTANT: share(&j, constant, batch, bbn_size(op->shape)); break;
    default: break;
    }
}

int64_t bbn_state_size(const bbn_op *op) {
    return op->kind == BBN_RECURRENT ? 2 * (op->source.channels + op->shape.channels) : 0;
}

/* one step of one input; the state lies in `h`, a memory in `c`; `gates` and `work` hold gates * C numbers each */
static void recurrent_step(const bbn_layer *layer, const float *x, float *gates, float *work, float *h, float *c) {
    const bbn_op *op = layer->op;
    const bbn_kernels *k = layer->kernels;
    const int64_t n = op->shape.channels, all = op->source.channels;
    switch (op->variant & 3) {
    case BBN_GRU:
        k->add(x, gates, 2 * n, -INFINITY, INFINITY, work);
        k->function(BBN_SIGMOID_INDEX, work, 2 * n, 0, gates);
        for (int64_t i = 0; i < n; i++) work[i] = x[2 * n + i] + gates[i] * gates[2 * n + i];
        k->function(BBN_TANH_INDEX, work, n, 0, gates + 2 * n);
        for (int64_t i = 0; i < n; i++) h[i] = (1.0f - gates[n + i]) * gates[2 * n + i] + gates[n + i] * h[i];
        return;
    case BBN_LSTM:
        k->add(x, gates, all, -INFINITY, INFINITY, work);
        k->function(BBN_SIGMOID_INDEX, work, 2 * n, 0, gates);
        k->function(BBN_TANH_INDEX, work + 2 * n, n, 0, gates + 2 * n);
        k->function(BBN_SIGMOID_INDEX, work + 3 * n, n, 0, gates + 3 * n);
        for (int64_t i = 0; i < n; i++) c[i] = gates[n + i] * c[i] + gates[i] * gates[2 * n + i];
        k->function(BBN_TANH_INDEX, c, n, 0, h);
        for (int64_t i = 0; i < n; i++) h[i] = gates[3 * n + i] * h[i];
        return;
    case BBN_RNN_TANH:
        k->add(x, gates, n, -INFINITY, INFINITY, work);
        k->function(BBN_TANH_INDEX, work, n, 0, h);
        return;
    default: k->add(x, gates, n, 0, INFINITY, h);
    }
}

void bbn_run_recurrent(bbn_workspace *space, const bbn_layer *layer, const bbn_layer *product, const float *x,
                       int64_t batch, int64_t network, float *out) {
    const bbn_op *op = layer->op;
    const int64_t n = op->shape.channels, all = op->source.channels, steps = op->source.width;
    float *h = space->state, *c = h + batch * n, *gates = c + batch * n, *work = gates + batch * all;
    memset(h, 0, (size_t)(8 * batch * n));
    for (int64_t i = 0; i < steps; i++) {
        const int64_t t = op->variant & 4 ? steps - 1 - i : i;
        bbn_run_op(space, product, h, h, batch, network, gates);
        for (int64_t b = 0; b < batch; b++) {
            recurrent_step(layer, x + (b * steps + t) * all, gates + b * all, work, h + b * n, c + b * n);
            memcpy(out + (b * steps + t) * n, h + b * n, (size_t)(4 * n));
        }
    }
}

int64_t bbn_float_scratch(const bbn_op *op) {
    if (op->kind == BBN_NORMALIZE && op->variant & 2) return 2 * bbn_size(op->source) / op->groups;
    if (op->kind != BBN_MATMUL) return 0;
    return bbn_round_up(op->shape.channels, BBN_REAL_ROWS) * (op->source.channels + BBN_MAX_PIXELS);
}
