/* Creating a network, running it, and taking it down. */
#include "net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int64_t MAX_MEMORY = INT64_C(1) << 34, TILE_BYTES = 1 << 21;

int bbn_abi(void) { return 2; }

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* memory for one input that an operation needs besides its values */
typedef struct {
    int64_t tables, gathered, padding, levels, acc, pointers, zeros;
} needs;

static void add_needs(const bbn_net *net, const bbn_layer *layer, needs *most) {
    const bbn_op *op = layer->op;
    const int64_t in = bbn_pixels(op->source), out = bbn_pixels(op->shape);
    needs own = {0};
    switch (layer->method) {
    case BBN_TAPS:
        own.padding = layer->table_bytes * layer->passes;
        own.tables = own.padding * in;
        own.levels = layer->unit * layer->length;
        break;
    case BBN_GATHER:
        own.tables = layer->table_bytes * layer->passes * out;
        own.gathered = bbn_size(op->source);
        own.levels = layer->unit * layer->length;
        break;
    case BBN_XOR: own.tables = 8 * layer->length * in; break;
    case BBN_DIRECT:
        own.tables = 4 * bbn_size(op->source);
        own.gathered = bbn_size(op->source);
        break;
    default: break;
    }
    own.acc = BBN_MAX_PIXELS * layer->rows;
    if (layer->method != BBN_PLAIN) own.pointers = BBN_MAX_PIXELS * layer->segments;
    own.zeros = larger(op->source.channels, 16);
    most->tables = larger(most->tables, own.tables), most->gathered = larger(most->gathered, own.gathered);
    most->padding = larger(most->padding, own.padding), most->levels = larger(most->levels, own.levels);
    most->acc = larger(most->acc, own.acc), most->pointers = larger(most->pointers, own.pointers);
    most->zeros = larger(most->zeros, own.zeros);
    (void)net;
}

/* Gives every value between input and output a slot; a slot is free again after the last operation that reads it. */
static int64_t assign_slots(bbn_net *net, int64_t *slot_size) {
    const int64_t n = net->program.num_ops;
    int64_t *last = bbn_allocate(8 * (n + 1)), *owner = bbn_allocate(8 * (n + 1)), total = 0;
    if (!last || !owner) total = -1;
    for (int64_t i = 0; total >= 0 && i < n; i++) {
        const bbn_op *op = &net->program.ops[i];
        last[op->inputs[0]] = i;
        if (op->kind == BBN_ADD) last[op->inputs[1]] = i;
    }
    for (int64_t v = 0; total >= 0 && v <= n; v++) net->slot[v] = -1;
    for (int64_t v = 1; total >= 0 && v < n; v++) {
        const int64_t made = v - 1, size = bbn_size(net->program.ops[made].shape);
        int64_t best = -1;
        for (int64_t s = 0; s < net->num_slots; s++) /* the value that owned s was last read before `made` */
            if (larger(last[owner[s]], owner[s] - 1) < made && (best < 0 || slot_size[s] > slot_size[best])) best = s;
        if (best < 0) best = net->num_slots++;
        owner[best] = v;
        slot_size[best] = larger(slot_size[best], size);
        net->slot[v] = (int)best;
    }
    for (int64_t s = 0; total >= 0 && s < net->num_slots; s++) total += 4 * slot_size[s];
    free(last);
    free(owner);
    return total;
}

static int allocate(bbn_net *net, const char **error) {
    const int64_t n = net->program.num_ops;
    *error = "out of memory";
    net->layers = bbn_allocate((int64_t)sizeof *net->layers * n);
    net->slot = bbn_allocate((int64_t)sizeof *net->slot * (n + 1));
    net->slots = bbn_allocate((int64_t)sizeof *net->slots * (n + 1));
    int64_t *slot_size = bbn_allocate(8 * (n + 1));
    if (!net->layers || !net->slot || !net->slots || !slot_size) return free(slot_size), -1;
    int64_t values = assign_slots(net, slot_size);
    needs most = {.zeros = 16};
    int status = values < 0 ? -1 : 0;
    for (int64_t i = 0; !status && i < n; i++) {
        status = bbn_layer_prepare(&net->layers[i], &net->program.ops[i], net->kernels, 1 + net->program.num_samples);
        if (!status) add_needs(net, &net->layers[i], &most);
    }
    const int64_t ends = 4 * (bbn_size(net->program.input) + bbn_size(net->program.ops[n - 1].shape));
    const int64_t each = values + ends + most.tables + 2 * most.gathered + most.padding;
    if (!status && (each > MAX_MEMORY || most.acc + most.pointers + most.levels > MAX_MEMORY))
        *error = "the network needs more than 16 GiB of working memory for one input", status = -1;
    if (status) return free(slot_size), -1;
    const int64_t fits = TILE_BYTES / larger(each, 1);
    net->tile = fits < 1 ? 1 : fits > BBN_MAX_BATCH ? BBN_MAX_BATCH : fits;
    for (int64_t s = 0; s < net->num_slots; s++)
        if (!(net->slots[s] = bbn_allocate(4 * slot_size[s] * net->tile))) status = -1;
    free(slot_size);
    net->tables = bbn_allocate(most.tables * net->tile);
    net->padding = bbn_allocate(most.padding * net->tile);
    net->zeros = bbn_allocate(8 * most.zeros);
    const bbn_shape in = net->program.input, out = net->program.ops[n - 1].shape;
    if (bbn_pixels(in) > 1 && !(net->entry = bbn_allocate(4 * bbn_size(in) * net->tile))) status = -1;
    if (bbn_pixels(out) > 1 && !(net->leave = bbn_allocate(4 * bbn_size(out) * net->tile))) status = -1;
    for (int i = 0; i < 2; i++)
        if (!(net->gathered[i] = bbn_allocate(most.gathered * net->tile))) status = -1;
    const int threads = bbn_pool_threads(net->pool);
    net->scratch = bbn_allocate((int64_t)sizeof *net->scratch * threads);
    if (status || !net->tables || !net->padding || !net->zeros || !net->scratch) return -1;
    for (int t = 0; t < threads; t++) {
        bbn_scratch *own = &net->scratch[t];
        for (int i = 0; i < 2; i++) own->levels[i] = bbn_allocate(most.levels);
        own->acc = bbn_allocate(4 * most.acc);
        own->pointers = bbn_allocate((int64_t)sizeof *own->pointers * most.pointers);
        if (!own->levels[0] || !own->levels[1] || !own->acc || !own->pointers) return -1;
    }
    return 0;
}

bbn_net *bbn_create(const int64_t *program, int64_t num_words, const uint8_t *data, int64_t num_bytes, const char *isa,
                    int threads, char *error, int error_size) {
    const char *reason = "out of memory";
    const bbn_kernels *kernels = bbn_kernels_named(isa);
    if (error_size < 1) return NULL;
    error[0] = 0;
    if (!kernels || !kernels->available()) {
        snprintf(error, (size_t)error_size, "this machine cannot run instruction set '%s'", isa);
        return NULL;
    }
    if (threads < 1 || threads > 1024) {
        snprintf(error, (size_t)error_size, "threads must be 1 to 1024, got %d", threads);
        return NULL;
    }
    bbn_net *net = calloc(1, sizeof *net);
    if (net) net->kernels = kernels;
    if (net && bbn_program_read(&net->program, program, num_words, data, num_bytes, error, (size_t)error_size)) {
        bbn_free(net);
        return NULL;
    }
    if (net) net->pool = bbn_pool_create(threads);
    if (!net || !net->pool || allocate(net, &reason)) {
        snprintf(error, (size_t)error_size, "%s", reason);
        bbn_free(net);
        return NULL;
    }
    for (int64_t i = 0; i < net->program.num_ops; i++) /* the caller may free the data now */
        net->program.ops[i].weights = net->program.ops[i].scale = net->program.ops[i].shift = NULL;
    return net;
}

/* x - x is 0 for finite x, and NaN otherwise */
static int all_finite(const float *x, int64_t n) {
    float sum[16] = {0};
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16; j++) sum[j] += x[i + j] - x[i + j];
    for (; i < n; i++) sum[0] += x[i] - x[i];
    for (int j = 1; j < 16; j++) sum[0] += sum[j];
    return sum[0] == 0;
}

int bbn_run(bbn_net *net, const float *x, int64_t batch, int64_t first, int64_t count, float *out) {
    if (batch < 1 || first < 0 || count < 1 || first > net->program.num_samples ||
        count > net->program.num_samples + 1 - first)
        return 1;
    const int64_t n = net->program.num_ops, in = bbn_size(net->program.input);
    const bbn_shape source = net->program.input, shape = net->program.ops[n - 1].shape;
    const int64_t each = bbn_size(shape);
    if (!all_finite(x, batch * in)) return 2;
    for (int64_t begin = 0; begin < batch; begin += net->tile) {
        const int64_t tile = batch - begin < net->tile ? batch - begin : net->tile;
        for (int64_t b = 0; net->entry && b < tile; b++)
            bbn_transpose(x + (begin + b) * in, source.channels, bbn_pixels(source), net->entry + b * in);
        for (int64_t network = 0; network < count; network++) {
            float *to = out + (network * batch + begin) * each;
            for (int64_t i = 0; i < n; i++) {
                const bbn_layer *layer = &net->layers[i];
                const float *inputs[2];
                for (int j = 0; j < 2; j++) {
                    int64_t v = layer->op->inputs[j];
                    inputs[j] = v ? net->slots[net->slot[v]] : net->entry ? net->entry : x + begin * in;
                }
                float *made = i < n - 1 ? net->slots[net->slot[i + 1]] : net->leave ? net->leave : to;
                bbn_run_op(net, layer, inputs[0], inputs[1], tile, first + network, made);
            }
            for (int64_t b = 0; net->leave && b < tile; b++)
                bbn_transpose(net->leave + b * each, bbn_pixels(shape), shape.channels, to + b * each);
        }
    }
    return 0;
}

void bbn_free(bbn_net *net) {
    if (!net) return;
    const int threads = net->pool ? bbn_pool_threads(net->pool) : 0;
    for (int64_t i = 0; net->layers && i < net->program.num_ops; i++) bbn_layer_free(&net->layers[i]);
    for (int64_t s = 0; net->slots && s < net->num_slots; s++) free(net->slots[s]);
    for (int t = 0; net->scratch && t < threads; t++) {
        for (int i = 0; i < 2; i++) free(net->scratch[t].levels[i]);
        free(net->scratch[t].acc);
        free(net->scratch[t].pointers);
    }
    bbn_pool_free(net->pool);
    bbn_program_free(&net->program);
    free(net->layers);
    free(net->slot);
    free(net->slots);
    free(net->tables);
    free(net->padding);
    free(net->zeros);
    free(net->entry);
    free(net->leave);
    for (int i = 0; i < 2; i++) free(net->gathered[i]);
    free(net->scratch);
    free(net);
}
