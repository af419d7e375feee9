#include "program.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* limits that keep every product below in 63 bits; the same as in runtime/program.py */
static const int64_t MAX_OPS = 4096, MAX_SIZE = 1 << 24, MAX_VALUE = 1 << 28, MAX_SAMPLES = 4096;

typedef struct {
    const uint8_t *data;
    int64_t num_bytes, index;
    char *error;
    size_t error_size;
} reader;

static int fail(const reader *r, const char *field) {
    snprintf(r->error, r->error_size, "operation %lld: %s is out of range", (long long)r->index, field);
    return -1;
}

static int within(int64_t value, int64_t low, int64_t high) { return low <= value && value <= high; }

static float as_float(int64_t word) {
    uint32_t bits = (uint32_t)word;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static const uint8_t *span(const reader *r, int64_t offset, int64_t size) {
    return within(offset, 0, r->num_bytes) && within(size, 1, r->num_bytes - offset) ? r->data + offset : NULL;
}

static int has_weights(const bbn_op *op) { return op->kind == BBN_BINARY || op->kind == BBN_REAL; }

/* height and width after a window slides over the source */
static int read_window(const reader *r, const int64_t *w, bbn_op *op) {
    const int64_t size[2] = {op->source.height, op->source.width};
    int64_t out[2];
    for (int i = 0; i < 2; i++) {
        int64_t kernel = w[BBN_W_KERNEL + i], stride = w[BBN_W_STRIDE + i];
        int64_t padding = w[BBN_W_PADDING + i], dilation = w[BBN_W_DILATION + i];
        if (!within(kernel, 1, MAX_SIZE)) return fail(r, "kernel");
        if (!within(stride, 1, MAX_SIZE)) return fail(r, "stride");
        if (!within(padding, 0, MAX_SIZE)) return fail(r, "padding");
        if (!within(dilation, 1, MAX_SIZE)) return fail(r, "dilation");
        int64_t room = size[i] + 2 * padding - dilation * (kernel - 1) - 1;
        if (!within(room, 0, 4 * MAX_SIZE)) return fail(r, "kernel");
        out[i] = room / stride + 1;
        if (out[i] > MAX_SIZE) return fail(r, "padding");
        if (!has_weights(op) && 2 * padding > kernel) return fail(r, "padding");
        op->kernel[i] = kernel, op->stride[i] = stride, op->padding[i] = padding, op->dilation[i] = dilation;
    }
    if (op->kernel[0] * op->kernel[1] > MAX_SIZE) return fail(r, "kernel");
    op->shape.height = out[0], op->shape.width = out[1];
    return 0;
}

static int read_weights(const reader *r, const int64_t *w, bbn_op *op, int64_t networks) {
    op->groups = w[BBN_W_GROUPS];
    op->shape.channels = w[BBN_W_CHANNELS];
    if (!within(op->shape.channels, 1, MAX_SIZE)) return fail(r, "channels");
    if (!within(op->groups, 1, MAX_SIZE) || op->source.channels % op->groups || op->shape.channels % op->groups)
        return fail(r, "groups");
    int64_t fan_in = bbn_fan_in(op); /* at most 2^48 */
    if (fan_in > INT64_C(1) << 24) return fail(r, "fan-in");
    int64_t count = fan_in * op->shape.channels;
    if (op->kind == BBN_REAL) {
        op->weights = span(r, w[BBN_W_WEIGHTS], 4 * count * op->rows);
    } else {
        if (!within(w[BBN_W_ACTIVATION], 0, BBN_NUM_ACTIVATIONS - 1)) return fail(r, "activation");
        op->activation = (bbn_activation)w[BBN_W_ACTIVATION];
        if (fan_in > (op->activation == BBN_INT16 ? 1 << 15 : 1 << 20)) return fail(r, "fan-in");
        int64_t levels = bbn_levels(op->activation);
        op->fixed = w[BBN_W_FIXED] != 0;
        op->step = as_float(w[BBN_W_STEP]);
        if (op->fixed && !(op->step >= 1e-30f && op->step <= 1e30f)) return fail(r, "step");
        if (!within(w[BBN_W_ZERO], -levels, levels)) return fail(r, "zero");
        op->zero = (int32_t)w[BBN_W_ZERO];
        op->weights = span(r, w[BBN_W_WEIGHTS], (count + 7) / 8 * networks);
    }
    return op->weights ? 0 : fail(r, "weights");
}

/* what the view reads lies in its input, and its dimensions hold its output */
static int read_view(const reader *r, const int64_t *w, bbn_op *op) {
    int64_t count = 1, least = w[BBN_W_OFFSET], most = least;
    if (!within(least, 0, MAX_VALUE)) return fail(r, "offset");
    for (int i = 0; i < BBN_MAX_DIMS; i++) {
        const int64_t size = w[BBN_W_SIZES + i], stride = w[BBN_W_STRIDES + i];
        if (!within(size, 1, MAX_SIZE) || (count *= size) > MAX_VALUE) return fail(r, "sizes");
        if (!within(stride, -MAX_SIZE, MAX_SIZE)) return fail(r, "strides");
        *(stride < 0 ? &least : &most) += (size - 1) * stride;
        op->sizes[i] = size, op->strides[i] = stride;
    }
    if (least < 0 || most >= bbn_size(op->source)) return fail(r, "offset");
    op->offset = w[BBN_W_OFFSET];
    return count == bbn_size(op->shape) ? 0 : fail(r, "sizes");
}

static int read_shape(const reader *r, const int64_t *w, bbn_op *op) {
    op->shape = (bbn_shape){w[BBN_W_SHAPE], w[BBN_W_SHAPE + 1], w[BBN_W_SHAPE + 2]};
    if (!within(op->shape.channels, 1, MAX_SIZE) || !within(op->shape.height, 1, MAX_SIZE) ||
        !within(op->shape.width, 1, MAX_SIZE) || bbn_pixels(op->shape) > MAX_VALUE || bbn_size(op->shape) > MAX_VALUE)
        return fail(r, "shape");
    return 0;
}

static int equal_or_1(int64_t size, int64_t of) { return size == of || size == 1; }

/* the kinds without a window or binary weights */
static int read_float(const reader *r, const int64_t *w, bbn_op *op) {
    const bbn_shape a = op->source, b = op->other;
    const int64_t variant = w[BBN_W_VARIANT];
    op->parameter = as_float(w[BBN_W_PARAMETER]);
    op->variant = (int)(variant & 15);
    switch (op->kind) {
    case BBN_ADD:
    case BBN_MULTIPLY:
        if (!equal_or_1(b.channels, a.channels) || !equal_or_1(b.height, a.height) || !equal_or_1(b.width, a.width))
            return fail(r, "second input");
        return 0;
    case BBN_FUNCTION:
        if (!within(variant, 0, BBN_NUM_FUNCTIONS - 1)) return fail(r, "function");
        return op->parameter - op->parameter == 0 ? 0 : fail(r, "parameter");
    case BBN_NORMALIZE:
        op->groups = w[BBN_W_GROUPS];
        if (!within(variant, 0, 3)) return fail(r, "variant");
        if (!(op->parameter >= 1e-30f && op->parameter <= FLT_MAX)) return fail(r, "epsilon");
        return within(op->groups, 1, MAX_SIZE) && a.channels % op->groups == 0 ? 0 : fail(r, "groups");
    case BBN_MATMUL:
        if (!within(variant, 0, 1)) return fail(r, "variant");
        op->shape.channels = variant ? b.width : b.channels;
        if (a.channels > MAX_SIZE || op->shape.channels > MAX_SIZE) return fail(r, "channels");
        return b.height == a.height && a.channels == (variant ? b.channels : b.width) ? 0 : fail(r, "second input");
    case BBN_CONCAT: {
        if (!within(variant, 0, 2)) return fail(r, "axis");
        int64_t *sizes[3] = {&op->shape.channels, &op->shape.height, &op->shape.width};
        const int64_t more[3] = {b.channels, b.height, b.width};
        for (int i = 0; i < 3; i++)
            if (i == variant)
                *sizes[i] += more[i];
            else if (*sizes[i] != more[i])
                return fail(r, "second input");
        return 0;
    }
    case BBN_RECURRENT:
        if (!within(variant, 0, 15)) return fail(r, "variant");
        if (a.height != 1 || a.channels > MAX_SIZE || a.channels % bbn_gates(op)) return fail(r, "channels");
        op->shape.channels = a.channels / bbn_gates(op);
        return 0;
    case BBN_VIEW: return read_shape(r, w, op) || read_view(r, w, op) ? -1 : 0;
    case BBN_CONSTANT:
        if (read_shape(r, w, op)) return -1;
        op->source = op->shape;
        op->weights = span(r, w[BBN_W_WEIGHTS], 4 * bbn_size(op->shape) * op->rows);
        return op->weights ? 0 : fail(r, "value");
    case BBN_FLATTEN: op->shape = (bbn_shape){bbn_size(op->source), 1, 1}; return 0;
    default: return 0;
    }
}

/* the layer that multiplies a state: from (C) to (gates * C) */
static int read_product(const reader *r, const int64_t *w, const bbn_op *op, bbn_op *product, int64_t networks) {
    int64_t words[BBN_OP_WORDS];
    memcpy(words, w, sizeof words);
    words[BBN_W_CHANNELS] = op->source.channels, words[BBN_W_GROUPS] = 1;
    *product = (bbn_op){.kind = op->variant & 8 ? BBN_REAL : BBN_BINARY, .source = {op->shape.channels, 1, 1}};
    product->shape = product->source;
    product->low = -INFINITY, product->high = INFINITY, product->rows = op->rows;
    for (int i = 0; i < 2; i++) product->kernel[i] = product->stride[i] = product->dilation[i] = 1;
    if (read_weights(r, words, product, networks)) return -1;
    product->scale = span(r, w[BBN_W_SCALE], 4 * op->source.channels * op->rows);
    product->shift = span(r, w[BBN_W_SHIFT], 4 * op->source.channels * op->rows);
    return product->scale && product->shift ? 0 : fail(r, "scale or shift");
}

static int read_op(const reader *r, const int64_t *w, bbn_op *op, const bbn_shape *shapes, int64_t networks,
                   bbn_op *product) {
    if (!within(w[BBN_W_KIND], 0, BBN_NUM_KINDS - 1)) return fail(r, "kind");
    op->kind = (bbn_kind)w[BBN_W_KIND];
    for (int i = 0; i < bbn_num_inputs_of(op->kind); i++) {
        if (!within(w[BBN_W_FIRST + i], 0, r->index)) return fail(r, "input");
        op->inputs[i] = w[BBN_W_FIRST + i];
    }
    op->source = op->shape = shapes[op->inputs[0]];
    op->other = shapes[op->inputs[1]];
    op->groups = 1;
    if (!within(w[BBN_W_OWN], 0, 1)) return fail(r, "own");
    op->rows = w[BBN_W_OWN] ? networks : 1;
    for (int i = 0; i < 2; i++) op->kernel[i] = op->stride[i] = op->dilation[i] = 1;
    op->low = as_float(w[BBN_W_LOW]), op->high = as_float(w[BBN_W_HIGH]);
    if (!(op->low <= op->high)) return fail(r, "clamp");
    if (read_float(r, w, op)) return -1;
    if (has_weights(op) || op->kind == BBN_MAX_POOL || op->kind == BBN_AVG_POOL)
        if (read_window(r, w, op)) return -1;
    if (has_weights(op) && read_weights(r, w, op, networks)) return -1;
    if (has_weights(op) || op->kind == BBN_AFFINE || op->kind == BBN_NORMALIZE) {
        op->scale = span(r, w[BBN_W_SCALE], 4 * op->shape.channels * op->rows);
        op->shift = span(r, w[BBN_W_SHIFT], 4 * op->shape.channels * op->rows);
        if (!op->scale || !op->shift) return fail(r, "scale or shift");
    }
    if (op->kind == BBN_RECURRENT && read_product(r, w, op, product, networks)) return -1;
    if (op->shape.channels > MAX_VALUE || bbn_pixels(op->shape) > MAX_VALUE || bbn_size(op->shape) > MAX_VALUE)
        return fail(r, "output size");
    return 0;
}

int bbn_program_read(bbn_program *program, const int64_t *words, int64_t num_words, const uint8_t *data,
                     int64_t num_bytes, char *error, size_t error_size) {
    reader r = {data, num_bytes, 0, error, error_size};
    *program = (bbn_program){0};
    if (num_words < BBN_HEADER_WORDS || !within(words[0], 1, MAX_OPS) ||
        num_words != BBN_HEADER_WORDS + words[0] * BBN_OP_WORDS) {
        snprintf(error, error_size, "a program of %lld words does not hold its operations", (long long)num_words);
        return -1;
    }
    bbn_shape input = {words[1], words[2], words[3]};
    if (!within(input.channels, 1, MAX_VALUE) || !within(input.height, 1, MAX_SIZE) ||
        !within(input.width, 1, MAX_SIZE) || bbn_pixels(input) > MAX_VALUE || bbn_size(input) > MAX_VALUE ||
        !within(words[4], 0, MAX_SAMPLES)) {
        snprintf(error, error_size, "the input shape or the number of samples is out of range");
        return -1;
    }
    program->num_ops = words[0], program->num_samples = words[4], program->input = input;
    program->ops = calloc(2 * (size_t)words[0], sizeof *program->ops);
    bbn_shape *shapes = calloc((size_t)words[0] + 1, sizeof *shapes);
    int status = program->ops && shapes ? 0 : -1;
    if (status) snprintf(error, error_size, "out of memory");
    if (!status) shapes[0] = input;
    for (; !status && r.index < program->num_ops; r.index++) {
        bbn_op *op = &program->ops[r.index];
        status = read_op(&r, words + BBN_HEADER_WORDS + r.index * BBN_OP_WORDS, op, shapes, 1 + program->num_samples,
                         op + program->num_ops);
        shapes[r.index + 1] = op->shape;
    }
    free(shapes);
    if (status) bbn_program_free(program);
    return status;
}

void bbn_program_free(bbn_program *program) {
    free(program->ops);
    *program = (bbn_program){0};
}
