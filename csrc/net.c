/* Creating a network, running it, and taking it down. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "bayesbinn.h"
#include "isa.h"
#include "workspace.h"

static const int64_t TILE_BYTES = 1 << 21;

/* sizes of a workspace, for one input where it holds several */
typedef struct {
    int64_t tables, own_tables, gathered, padding, levels, acc, pointers, zeros, state;
} needs;

struct bbn_net {
    bbn_program program;
    bbn_memory memory;
    bbn_layer *layers;
    int64_t *slot; /* of each value: index into a workspace's `slots`, -1 for the input and the output */
    int64_t *slot_size, num_slots;
    needs most;
    int64_t tile; /* inputs that go through the network together */
    int threads;
    bbn_workspace *_Atomic spaces; /* grows at the front and never shrinks, so that anyone may walk it */
};

int bbn_abi(void) { return 8; }

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* ---- memory ---- */

/* whether one input has so few pixels that threads may share the rows of a tile, and tables (see few_tiles in run.c) */
static int shares_rows(const bbn_layer *layer, int threads) {
    return threads > 1 && bbn_pixels(layer->op->shape) < 4 * (int64_t)threads * layer->lut->pixels;
}

static void add_needs(const bbn_layer *layer, int threads, needs *most) {
    const bbn_op *op = layer->op;
    const int64_t in = bbn_pixels(op->source), out = bbn_pixels(op->shape);
    needs own = {0};
    switch (layer->method) {
    case BBN_TAPS:
        own.padding = layer->table_bytes * layer->passes;
        own.own_tables = own.padding * (bbn_taps(op) > 1 ? bbn_ring(op) * op->source.width + 1 : 0);
        if (shares_rows(layer, threads)) own.tables = own.padding * in;
        break;
    case BBN_GATHER:
        if (shares_rows(layer, threads)) own.tables = layer->table_bytes * layer->passes * out;
        own.gathered = bbn_size(op->source);
        break;
    case BBN_XOR: own.tables = 8 * layer->length * in; break;
    case BBN_DIRECT:
        own.tables = 4 * bbn_size(op->source);
        own.gathered = bbn_size(op->source);
        break;
    default: break;
    }
    if (layer->method == BBN_TAPS || layer->method == BBN_GATHER) {
        own.levels = layer->lut->pixels * layer->lut->unit * layer->length;
        own.own_tables = larger(own.own_tables, larger(BBN_CHUNK_BYTES, layer->lut->table_bytes * BBN_MAX_PIXELS));
    }
    if (layer->method != BBN_PLAIN) {
        own.acc = BBN_MAX_PIXELS * layer->rows;
        own.pointers = BBN_MAX_PIXELS * layer->segments;
    }
    own.acc = larger(own.acc, bbn_float_scratch(op));
    own.zeros = op->source.channels;
    most->tables = larger(most->tables, own.tables), most->gathered = larger(most->gathered, own.gathered);
    most->own_tables = larger(most->own_tables, own.own_tables);
    most->padding = larger(most->padding, own.padding), most->levels = larger(most->levels, own.levels);
    most->acc = larger(most->acc, own.acc), most->pointers = larger(most->pointers, own.pointers);
    most->zeros = larger(most->zeros, own.zeros), most->state = larger(most->state, bbn_state_size(op));
}

/* Gives every value between input and output a slot; a slot is free again after the last operation that reads it. */
static int assign_slots(bbn_net *net) {
    const int64_t n = net->program.num_ops;
    int64_t *last = calloc((size_t)(n + 1), sizeof *last), *owner = calloc((size_t)(n + 1), sizeof *owner);
    for (int64_t i = 0; last && owner && i < n; i++) {
        const bbn_op *op = &net->program.ops[i];
        last[op->inputs[0]] = i;
        if (bbn_num_inputs_of(op->kind) == 2) last[op->inputs[1]] = i;
        net->slot[i] = net->slot[i + 1] = -1;
    }
    for (int64_t v = 1; last && owner && v < n; v++) {
        const int64_t made = v - 1, size = bbn_size(net->program.ops[made].shape);
        int64_t best = -1;
        for (int64_t s = 0; s < net->num_slots; s++) /* the value that owned s was last read before `made` */
            if (larger(last[owner[s]], owner[s] - 1) < made && (best < 0 || net->slot_size[s] > net->slot_size[best]))
                best = s;
        if (best < 0) best = net->num_slots++;
        owner[best] = v;
        net->slot_size[best] = larger(net->slot_size[best], size);
        net->slot[v] = best;
    }
    const int status = last && owner ? 0 : -1;
    free(last);
    free(owner);
    return status;
}

static bbn_shape output(const bbn_net *net) { return net->program.ops[net->program.num_ops - 1].shape; }

static void choose_tile(bbn_net *net) {
    int64_t each = 4 * (bbn_size(net->program.input) + bbn_size(output(net)));
    for (int64_t s = 0; s < net->num_slots; s++) each += 4 * net->slot_size[s];
    each += net->most.tables + 2 * net->most.gathered + net->most.padding;
    net->tile = TILE_BYTES / each;
    net->tile = net->tile < 1 ? 1 : net->tile > BBN_MAX_BATCH ? BBN_MAX_BATCH : net->tile;
}

static void furnish(const bbn_net *net, bbn_workspace *space) {
    bbn_memory *m = &space->memory;
    const needs *most = &net->most;
    const int64_t in = bbn_size(net->program.input), out = bbn_size(output(net)), tile = net->tile;
    space->slots = bbn_take(m, (int64_t)sizeof *space->slots * net->num_slots);
    for (int64_t s = 0; s < net->num_slots; s++) {
        float *slot = bbn_take(m, 4 * net->slot_size[s] * tile);
        if (slot) space->slots[s] = slot;
    }
    if (bbn_pixels(net->program.input) > 1) space->entry = bbn_take(m, 4 * in * tile);
    if (bbn_pixels(output(net)) > 1) space->leave = bbn_take(m, 4 * out * tile);
    space->tables = bbn_take(m, most->tables * tile);
    space->padding = bbn_take(m, most->padding * tile);
    for (int i = 0; i < 2; i++) space->gathered[i] = bbn_take(m, most->gathered * tile);
    space->zeros = bbn_take(m, 8 * most->zeros);
    space->state = bbn_take(m, 4 * most->state * tile);
    space->scratch = bbn_take(m, (int64_t)sizeof *space->scratch * net->threads);
    for (int t = 0; t < net->threads; t++) {
        bbn_scratch own = {{bbn_take(m, most->levels), bbn_take(m, most->levels)}, bbn_take(m, most->own_tables), NULL, NULL};
        own.acc = bbn_take(m, 4 * most->acc);
        own.pointers = bbn_take(m, (int64_t)sizeof *own.pointers * most->pointers);
        if (own.pointers) space->scratch[t] = own;
    }
}

static void free_space(bbn_workspace *space) {
    bbn_pool_free(space->pool);
    bbn_release(&space->memory);
    free(space);
}

/* A new workspace that the caller holds, or NULL if out of memory. */
static bbn_workspace *add_space(bbn_net *net) {
    bbn_workspace *space = calloc(1, sizeof *space);
    if (!space) return NULL;
    furnish(net, space);
    space->pool = bbn_pool_create(net->threads);
    if (space->memory.failed || !space->pool) return free_space(space), NULL;
    bbn_claim_take(&space->claim);
    space->next = atomic_load(&net->spaces);
    while (!atomic_compare_exchange_weak(&net->spaces, &space->next, space)) continue;
    return space;
}

static bbn_workspace *take_space(bbn_net *net) {
    for (bbn_workspace *space = atomic_load(&net->spaces); space; space = space->next)
        if (bbn_claim_take(&space->claim)) return space;
    return add_space(net);
}

/* ---- a network ---- */

/* operation i, or the product of operation i - num_ops with its state */
static int exists(const bbn_net *net, int64_t i) {
    return i < net->program.num_ops || net->program.ops[i - net->program.num_ops].kind == BBN_RECURRENT;
}

static int prepare(bbn_net *net, const bbn_kernels *kernels, int64_t max_memory, char *error, size_t error_size) {
    const int64_t n = net->program.num_ops;
    snprintf(error, error_size, "out of memory");
    net->layers = bbn_take(&net->memory, (int64_t)sizeof *net->layers * 2 * n);
    net->slot = bbn_take(&net->memory, (int64_t)sizeof *net->slot * (n + 1));
    net->slot_size = bbn_take(&net->memory, (int64_t)sizeof *net->slot_size * (n + 1));
    if (net->memory.failed || assign_slots(net)) return -1;
    for (int64_t i = 0; i < 2 * n; i++) {
        if (!exists(net, i)) continue;
        bbn_layer_choose(&net->layers[i], &net->program.ops[i], kernels, 1 + net->program.num_samples);
        add_needs(&net->layers[i], net->threads, &net->most);
    }
    choose_tile(net);
    bbn_workspace count = {.memory = {.counting = 1, .bytes = net->memory.bytes}};
    furnish(net, &count);
    for (int64_t i = 0; i < 2 * n; i++)
        if (exists(net, i)) bbn_layer_take(&net->layers[i], &count.memory);
    if (count.memory.bytes > max_memory) {
        snprintf(error, error_size, "it needs %" PRId64 " bytes of memory, max_memory allows %" PRId64,
                 count.memory.bytes, max_memory);
        return -1;
    }
    for (int64_t i = 0; i < 2 * n; i++)
        if (exists(net, i)) bbn_layer_take(&net->layers[i], &net->memory);
    bbn_workspace *space = net->memory.failed ? NULL : add_space(net);
    if (!space) return -1;
    bbn_claim_give(&space->claim);
    for (int64_t i = 0; i < 2 * n; i++) {
        bbn_op *op = &net->program.ops[i];
        if (!exists(net, i)) continue;
        bbn_layer_fill(&net->layers[i]);
        op->weights = op->scale = op->shift = NULL; /* the caller may free the data now */
    }
    error[0] = 0;
    return 0;
}

bbn_net *bbn_create(const int64_t *program, int64_t num_words, const uint8_t *data, int64_t num_bytes, int isa,
                    int threads, int64_t max_memory, char *error, int error_size) {
    if (error_size < 1) return NULL;
    const size_t size = (size_t)error_size;
    const bbn_isa *set = bbn_isa_at(isa);
    if (!set) return snprintf(error, size, "this machine cannot run instruction set %d", isa), NULL;
    if (threads < 1 || threads > 1024)
        return snprintf(error, size, "threads must be 1 to 1024, got %d", threads), NULL;
    bbn_net *net = calloc(1, sizeof *net);
    if (!net) return snprintf(error, size, "out of memory"), NULL;
    net->threads = threads;
    if (bbn_program_read(&net->program, program, num_words, data, num_bytes, error, size) ||
        prepare(net, set->kernels, max_memory, error, size))
        return bbn_free(net), NULL;
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

/* one network on one tile; x and out have their channels last, or one pixel */
static void run_tile(const bbn_net *net, bbn_workspace *space, const float *x, int64_t tile, int64_t network,
                     float *out) {
    const int64_t n = net->program.num_ops;
    for (int64_t i = 0; i < n; i++) {
        const bbn_layer *layer = &net->layers[i];
        const float *inputs[2];
        for (int j = 0; j < 2; j++) {
            const int64_t v = layer->op->inputs[j];
            inputs[j] = v ? space->slots[net->slot[v]] : x;
        }
        float *to = i < n - 1 ? space->slots[net->slot[i + 1]] : out;
        if (layer->op->kind == BBN_RECURRENT)
            bbn_run_recurrent(space, layer, &net->layers[n + i], inputs[0], tile, network, to);
        else
            bbn_run_op(space, layer, inputs[0], inputs[1], tile, network, to);
    }
}

int bbn_run(bbn_net *net, const float *x, int64_t num_x, int64_t first, int64_t count, float *out, int64_t num_out) {
    const bbn_shape source = net->program.input, shape = output(net);
    const int64_t in = bbn_size(source), each = bbn_size(shape), batch = num_x / in, networks = net->program.num_samples + 1;
    if (batch < 1 || num_x % in || first < 0 || first >= networks || count < 1 || count > networks - first ||
        num_out % each || num_out / each % batch || num_out / each / batch != count)
        return BBN_OUT_OF_RANGE;
    if (!all_finite(x, num_x)) return BBN_NOT_FINITE;
    bbn_workspace *space = take_space(net);
    if (!space) return BBN_NO_MEMORY;
    for (int64_t begin = 0; begin < batch; begin += net->tile) {
        const int64_t tile = batch - begin < net->tile ? batch - begin : net->tile;
        const float *from = space->entry ? space->entry : x + begin * in;
        for (int64_t b = 0; space->entry && b < tile; b++)
            bbn_transpose(x + (begin + b) * in, source.channels, bbn_pixels(source), space->entry + b * in);
        for (int64_t i = 0; i < count; i++) {
            float *to = out + (i * batch + begin) * each;
            run_tile(net, space, from, tile, first + i, space->leave ? space->leave : to);
            for (int64_t b = 0; space->leave && b < tile; b++)
                bbn_transpose(space->leave + b * each, bbn_pixels(shape), shape.channels, to + b * each);
        }
    }
    bbn_claim_give(&space->claim);
    return BBN_OK;
}

int64_t bbn_num_inputs(const bbn_net *net) { return bbn_size(net->program.input); }

int64_t bbn_num_outputs(const bbn_net *net) { return bbn_size(output(net)); }

void bbn_free(bbn_net *net) {
    if (!net) return;
    for (bbn_workspace *space = atomic_load(&net->spaces), *next; space; space = next) {
        next = space->next;
        free_space(space);
    }
    bbn_program_free(&net->program);
    bbn_release(&net->memory);
    free(net);
}
