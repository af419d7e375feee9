/* From the bits of the file to the order in which the kernels read weights. */
#include "layer.h"

#include <string.h>

/* bit of weight (o, c, tap) of one network, in the file's order (O, I/groups, kH * kW) */
static int bit(const bbn_op *op, const uint8_t *bits, int64_t o, int64_t c, int64_t tap) {
    int64_t index = (o * (op->source.channels / op->groups) + c) * bbn_taps(op) + tap;
    return bits[index >> 3] >> (index & 7) & 1;
}

/* one bit of the weights: of row r of a block, for activation k of a unit */
static void place_bit(const bbn_lut *lut, int64_t row, int64_t k, int one, uint8_t *unit) {
    if (lut->unit == 16)
        unit[row / 16 * 64 + row % 16 * 4 + k / 4] |= (uint8_t)(one << k % 4);
    else
        unit[lut->lane ? lut->lane[row] : row] |= (uint8_t)(one << k);
}

static void pack_lut(const bbn_layer *layer, const uint8_t *bits, uint8_t *out, int32_t *correction) {
    const bbn_op *op = layer->op;
    const bbn_lut *lut = layer->lut;
    const int64_t channels = op->source.channels, fan_in = bbn_fan_in(op);
    for (int64_t i = 0; lut->unit == 16 && i < layer->network_bytes; i++) out[i] = (uint8_t)((i & 3) << 4);
    for (int64_t o = 0; o < op->shape.channels; o++) {
        int64_t block = o / layer->block, sum = 0;
        for (int64_t s = 0; s < layer->segments; s++)
            for (int64_t k = 0; k < lut->unit * layer->length; k++) {
                int64_t tap = layer->method == BBN_TAPS ? s : k / channels;
                int64_t c = layer->method == BBN_TAPS ? k : k % channels;
                if (c >= channels || tap * channels + c >= fan_in) break;
                int one = bit(op, bits, o, c, tap);
                int64_t at = ((block * layer->segments + s) * layer->length + k / lut->unit) * lut->unit_bytes;
                place_bit(lut, o % layer->block, k % lut->unit, one, out + at);
                sum += 2 * one - 1;
            }
        correction[o] = (int32_t)sum;
    }
}

static void pack_xor(const bbn_layer *layer, const uint8_t *bits, uint64_t *out, int32_t *correction) {
    const bbn_op *op = layer->op;
    for (int64_t o = 0; o < op->shape.channels; o++)
        for (int64_t tap = 0; tap < layer->segments; tap++) {
            int64_t sum = 0;
            for (int64_t c = 0; c < op->source.channels; c++) {
                int64_t segment = o / layer->block * layer->segments + tap;
                int64_t at = (segment * layer->length + c / 64) * layer->block + o % layer->block;
                uint64_t one = (uint64_t)bit(op, bits, o, c, tap);
                out[at] |= one << (c & 63);
                sum += one ? 1 : -1;
            }
            correction[tap * layer->rows + o] = (int32_t)sum;
        }
}

/* depthwise: [tap][channel]; other groups: [output][tap][channel of the group] */
static void pack_direct(const bbn_layer *layer, const uint8_t *bits, int8_t *out) {
    const bbn_op *op = layer->op;
    const int64_t channels = op->source.channels / op->groups, outputs = op->shape.channels;
    for (int64_t o = 0; o < outputs; o++)
        for (int64_t tap = 0; tap < bbn_taps(op); tap++)
            for (int64_t c = 0; c < channels; c++) {
                int64_t at = layer->length ? tap * outputs + o : (o * bbn_taps(op) + tap) * channels + c;
                out[at] = (int8_t)(2 * bit(op, bits, o, c, tap) - 1);
            }
}

static void pack_float(const bbn_layer *layer, const uint8_t *weights, float *out) {
    const bbn_op *op = layer->op;
    const int64_t channels = op->source.channels / op->groups, taps = bbn_taps(op);
    for (int64_t o = 0; o < op->shape.channels; o++)
        for (int64_t tap = 0; tap < taps; tap++)
            for (int64_t c = 0; c < channels; c++) {
                int64_t at = layer->method == BBN_FLOAT
                                 ? ((o / layer->block * taps + tap) * channels + c) * layer->block + o % layer->block
                                 : (o * taps + tap) * channels + c;
                memcpy(out + at, weights + 4 * ((o * channels + c) * taps + tap), sizeof *out);
            }
}

static void choose(bbn_layer *layer) {
    const bbn_op *op = layer->op;
    const bbn_kernels *kernels = layer->kernels;
    const int64_t channels = op->source.channels, taps = bbn_taps(op);
    layer->block = 1, layer->segments = taps, layer->passes = 1;
    if (op->kind == BBN_REAL) {
        layer->method = op->groups == 1 ? BBN_FLOAT : BBN_FLOAT_GROUPS;
        layer->length = channels / op->groups;
        if (op->groups == 1) layer->block = BBN_REAL_ROWS;
        layer->network_bytes = 4 * bbn_round_up(op->shape.channels, layer->block) * bbn_fan_in(op);
    } else if (op->groups > 1) {
        layer->method = BBN_DIRECT;
        layer->length = op->groups == channels && channels == op->shape.channels; /* depthwise */
        layer->network_bytes = op->shape.channels * bbn_fan_in(op);
    } else if (op->activation == BBN_BITS1) {
        layer->method = BBN_XOR, layer->block = kernels->xor_rows, layer->length = (channels + 63) / 64;
        layer->network_bytes = 8 * bbn_round_up(op->shape.channels, layer->block) * taps * layer->length;
    } else {
        layer->method = taps == 1 || channels >= 32 ? BBN_TAPS : BBN_GATHER;
        if (layer->method == BBN_GATHER) layer->segments = 1;
        const bbn_lut *lut = op->activation == BBN_INT6 && kernels->narrow.unit ? &kernels->narrow : &kernels->lut;
        layer->lut = lut, layer->block = lut->rows, layer->passes = op->activation == BBN_INT16 ? 2 : 1;
        layer->length = ((layer->method == BBN_TAPS ? channels : channels * taps) + lut->unit - 1) / lut->unit;
        layer->table_bytes = layer->length * lut->table_bytes;
        layer->network_bytes = bbn_round_up(op->shape.channels, layer->block) / layer->block * layer->segments *
                               layer->length * lut->unit_bytes;
    }
    layer->network_bytes = bbn_round_up(layer->network_bytes, 64);
}

static int has_weights(const bbn_op *op) { return op->kind == BBN_BINARY || op->kind == BBN_REAL; }

void bbn_layer_choose(bbn_layer *layer, const bbn_op *op, const bbn_kernels *kernels, int64_t num_networks) {
    *layer = (bbn_layer){.op = op, .kernels = kernels, .block = 1};
    if (has_weights(op)) choose(layer);
    layer->rows = bbn_round_up(op->shape.channels, layer->block);
    layer->networks = op->kind == BBN_BINARY ? num_networks : op->rows;
    if (op->kind == BBN_BINARY) layer->num_corrections = layer->rows * (layer->method == BBN_XOR ? layer->segments : 1);
}

void bbn_layer_take(bbn_layer *layer, bbn_memory *memory) {
    const bbn_op *op = layer->op;
    if (op->kind == BBN_CONSTANT) layer->weights = bbn_take(memory, 4 * bbn_size(op->shape) * op->rows);
    if (!has_weights(op) && op->kind != BBN_AFFINE && op->kind != BBN_NORMALIZE) return; /* nor a recurrent layer's */
    layer->scale = bbn_take(memory, 4 * layer->rows * op->rows);
    layer->shift = bbn_take(memory, 4 * layer->rows * op->rows);
    layer->weights = bbn_take(memory, layer->network_bytes * layer->networks);
    layer->correction = bbn_take(memory, 4 * layer->num_corrections * layer->networks);
}

/* channels last */
static void fill_constant(bbn_layer *layer) {
    const int64_t channels = layer->op->shape.channels, pixels = bbn_pixels(layer->op->shape);
    for (int64_t n = 0; n < layer->op->rows; n++) {
        uint8_t *to = layer->weights + 4 * n * channels * pixels;
        const uint8_t *from = layer->op->weights + 4 * n * channels * pixels;
        for (int64_t c = 0; c < channels; c++)
            for (int64_t p = 0; p < pixels; p++) memcpy(to + 4 * (p * channels + c), from + 4 * (c * pixels + p), 4);
    }
}

void bbn_layer_fill(bbn_layer *layer) {
    const bbn_op *op = layer->op;
    const int64_t outputs = op->shape.channels, count = bbn_fan_in(op) * outputs;
    const int64_t bytes = op->kind == BBN_REAL ? 4 * count : (count + 7) / 8;
    if (op->kind == BBN_CONSTANT) fill_constant(layer);
    if (!layer->scale) return;
    for (int64_t n = 0; n < op->rows; n++) {
        memcpy(layer->scale + n * layer->rows, op->scale + 4 * n * outputs, (size_t)(4 * outputs));
        memcpy(layer->shift + n * layer->rows, op->shift + 4 * n * outputs, (size_t)(4 * outputs));
    }
    for (int64_t n = 0; has_weights(op) && n < layer->networks; n++) {
        const uint8_t *bits = op->weights + n * bytes;
        uint8_t *out = layer->weights + n * layer->network_bytes;
        int32_t *correction = layer->correction + n * layer->num_corrections;
        switch (layer->method) {
        case BBN_TAPS:
        case BBN_GATHER: pack_lut(layer, bits, out, correction); break;
        case BBN_XOR: pack_xor(layer, bits, (uint64_t *)(void *)out, correction); break;
        case BBN_DIRECT: pack_direct(layer, bits, (int8_t *)out); break;
        default: pack_float(layer, bits, (float *)(void *)out);
        }
    }
}

bbn_layer bbn_layer_of(const bbn_layer *layer, int64_t network) {
    bbn_layer own = *layer;
    if (own.scale) own.scale += network * own.rows, own.shift += network * own.rows;
    if (own.op->kind == BBN_REAL) own.weights += network * own.network_bytes;
    if (own.op->kind == BBN_CONSTANT) own.weights += 4 * network * bbn_size(own.op->shape);
    return own;
}
