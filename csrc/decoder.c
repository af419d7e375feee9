/* A decoder of text (llama's architecture) with matrices of ±1, one token at a time, keys and values kept.
 *
 * Each product is that of a linear layer with int8 activations: quantise, make tables, look up, scale.  Queries, keys and
 * values are rows of one matrix, as gate and up of the feed-forward layer are, so that they share tables.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bayesbinn.h"
#include "isa.h"
#include "layer.h"

enum { CHUNK_BYTES = 16 << 10 }; /* of tables: all rows pass over them while they are in the first-level cache */

typedef struct {
    const float *norm;
    bbn_op op;
    bbn_layer layer;
} matrix; /* and the RMSNorm before it; NULL: none */

typedef struct {
    matrix qkv, output, gate_up, down;
    float *keys, *values; /* (kv_heads, context, head) */
} block;

struct bbn_decoder {
    bbn_decoder_shape shape;
    const bbn_kernels *kernels;
    bbn_memory memory;
    block *blocks;
    matrix output;
    uint8_t *sign; /* of a binary embedding, (V, D) bits; NULL: real */
    float *embedding, *cosine, *sine; /* real (V, D), or scales (D); (context, head / 2) */
    int64_t position;
    float *x, *even, *norm, *wide, *gated, *mixed, *scores; /* room for one token */
    int8_t *levels;
    uint8_t *tables;
    int32_t *acc;
    float *zeros; /* the shift that no matrix has */
};

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t head_size(const bbn_decoder_shape *s) { return s->width / s->heads; }
static int64_t narrow(const bbn_decoder_shape *s) { return s->kv_heads * head_size(s); }

/* ---- making one ---- */

static const char *refused(const bbn_decoder_shape *s) {
    const int64_t all[] = {s->vocabulary, s->width, s->depth, s->heads, s->kv_heads, s->feed_forward, s->context};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i] < 1 || all[i] > BBN_MAX_DECODER) return "a size is not from 1 to 2^24";
    if (s->width % s->heads || head_size(s) % 2) return "width is not an even number for each head";
    if (s->heads % s->kv_heads) return "heads is no multiple of kv_heads";
    return NULL;
}

/* sizes of the two arrays, as `read_all` reads them; as doubles, since they may be beyond 64 bits */
static void sizes(const bbn_decoder_shape *s, double *bits, double *floats) {
    const double d = (double)s->width, f = (double)s->feed_forward, v = (double)s->vocabulary, n = (double)narrow(s);
    *bits = (double)s->depth * ((2 * d + 2 * n) * d + 3 * f * d) + v * d * (s->binary_embedding ? 2 : 1);
    *floats = (double)s->depth * (2 * d + (2 * d + 2 * n) + 2 * f + d) + d + v + (s->binary_embedding ? 1 : v) * d;
}

/* where reading stands */
typedef struct {
    bbn_decoder *decoder;
    const uint8_t *bits;
    const float *floats;
} reader;

static const float *next_floats(reader *r, int64_t count) {
    const float *found = r->floats;
    r->floats += count;
    return found;
}

static float *copied(reader *r, int64_t count) {
    float *to = bbn_take(&r->decoder->memory, 4 * count);
    const float *from = next_floats(r, count);
    if (to) memcpy(to, from, (size_t)(4 * count));
    return to;
}

static void read_matrix(reader *r, matrix *m, int64_t in, int64_t out, int norm) {
    bbn_memory *memory = &r->decoder->memory;
    m->norm = norm ? copied(r, in) : NULL;
    m->op = (bbn_op){.kind = BBN_BINARY, .source = {in, 1, 1}, .shape = {out, 1, 1}, .kernel = {1, 1}, .stride = {1, 1},
                     .dilation = {1, 1}, .groups = 1, .activation = BBN_INT8, .weights = r->bits, .rows = 1};
    m->op.scale = (const uint8_t *)next_floats(r, out), m->op.shift = (const uint8_t *)r->decoder->zeros;
    bbn_layer_choose(&m->layer, &m->op, r->decoder->kernels, 1);
    bbn_layer_take(&m->layer, memory);
    if (!memory->failed) bbn_layer_fill(&m->layer);
    m->op.weights = m->op.scale = m->op.shift = NULL; /* the caller's */
    r->bits += (in * out + 7) / 8;
}

static void read_all(reader *r) {
    bbn_decoder *d = r->decoder;
    const bbn_decoder_shape *s = &d->shape;
    bbn_memory *memory = &d->memory;
    const int64_t widest = larger(2 * s->feed_forward, larger(s->width + 2 * narrow(s), s->vocabulary));
    const int64_t longest = larger(s->width, s->feed_forward), half = head_size(s) / 2;
    d->zeros = bbn_take(memory, 4 * widest);
    d->embedding = copied(r, s->binary_embedding ? s->width : s->vocabulary * s->width);
    if (s->binary_embedding) {
        const int64_t bytes = (s->vocabulary * s->width + 7) / 8;
        d->sign = bbn_take(memory, bytes);
        if (d->sign) memcpy(d->sign, r->bits, (size_t)bytes);
        r->bits += bytes;
    }
    for (int64_t i = 0; i < s->depth; i++) {
        block *b = &d->blocks[i];
        read_matrix(r, &b->qkv, s->width, s->width + 2 * narrow(s), 1);
        read_matrix(r, &b->output, s->width, s->width, 0);
        read_matrix(r, &b->gate_up, s->width, 2 * s->feed_forward, 1);
        read_matrix(r, &b->down, s->feed_forward, s->width, 0);
        b->keys = bbn_take(memory, 4 * narrow(s) * s->context);
        b->values = bbn_take(memory, 4 * narrow(s) * s->context);
    }
    read_matrix(r, &d->output, s->width, s->vocabulary, 1);
    d->cosine = bbn_take(memory, 4 * s->context * half), d->sine = bbn_take(memory, 4 * s->context * half);
    d->x = bbn_take(memory, 4 * s->width), d->even = bbn_take(memory, 4 * s->width), d->norm = bbn_take(memory, 4 * longest);
    d->wide = bbn_take(memory, 4 * widest), d->mixed = bbn_take(memory, 4 * longest);
    d->gated = bbn_take(memory, 4 * s->feed_forward), d->scores = bbn_take(memory, 4 * s->context);
    d->levels = bbn_take(memory, longest + 64), d->tables = bbn_take(memory, CHUNK_BYTES + 4096);
    d->acc = bbn_take(memory, 4 * (widest + BBN_MAX_ROWS));
    for (int64_t t = 0; !memory->failed && t < s->context; t++)
        for (int64_t i = 0; i < half; i++) {
            const double angle = (double)t * pow((double)s->base, -(double)(2 * i) / (double)head_size(s));
            d->cosine[t * half + i] = (float)cos(angle), d->sine[t * half + i] = (float)sin(angle);
        }
}

bbn_decoder *bbn_decoder_create(const bbn_decoder_shape *shape, const uint8_t *bits, int64_t num_bytes,
                                const float *floats, int64_t num_floats, int isa, char *error, int error_size) {
    const char *why = refused(shape);
    const bbn_isa *found = bbn_isa_at(isa);
    double need_bits = 0, need_floats = 0;
    if (!why && !found) why = "no such instruction set";
    if (!why) sizes(shape, &need_bits, &need_floats);
    if (!why && (need_bits > 8.0 * (double)num_bytes || need_floats > (double)num_floats)) why = "an array is too short";
    bbn_decoder *d = why ? NULL : calloc(1, sizeof *d);
    if (d) {
        d->shape = *shape, d->kernels = found->kernels;
        d->blocks = calloc((size_t)shape->depth, sizeof *d->blocks);
        if (d->blocks) read_all(&(reader){d, bits, floats});
        if (!d->blocks || d->memory.failed) bbn_decoder_free(d), d = NULL;
    }
    if (!d) snprintf(error, (size_t)error_size, "%s", why ? why : "out of memory");
    return d;
}

void bbn_decoder_free(bbn_decoder *d) {
    if (!d) return;
    bbn_release(&d->memory);
    free(d->blocks);
    free(d);
}

/* ---- one token ---- */

/* out = scale * (W q), q the levels of x (of its RMSNorm, if there is one) */
static void multiply(bbn_decoder *d, const matrix *m, const float *x, float *out) {
    const bbn_layer *layer = &m->layer;
    const bbn_kernels *k = d->kernels;
    const bbn_lut *lut = layer->lut;
    const int64_t in = m->op.source.channels, rows = m->op.shape.channels, blocks = layer->rows / layer->block;
    const int64_t run = CHUNK_BYTES / lut->table_bytes, top = bbn_levels(BBN_INT8);
    if (m->norm) {
        k->normalize(x, in, 0, d->shape.eps, d->even);
        k->product(d->even, m->norm, in, -INFINITY, INFINITY, d->norm);
        x = d->norm;
    }
    float low = 0, high = 0;
    k->range(x, in, &low, &high);
    float step = (high - low) / (float)(2 * top);
    if (!(step > 1e-30f)) step = 1e-30f;
    const float inverse = 1.0f / step;
    const int32_t zero = (int32_t)rintf(bbn_clip(-low * inverse, 0, (float)(2 * top))) - (int32_t)top;
    k->quantize8(x, in, inverse, (float)(-top - zero), (float)(top - zero), zero, d->levels);
    memset(d->levels + in, 0, (size_t)(lut->unit * layer->length - in));
    memset(d->acc, 0, (size_t)(4 * layer->rows));
    for (int64_t u = 0; u < layer->length; u += run) {
        const int64_t n = layer->length - u < run ? layer->length - u : run;
        const uint8_t *weights = layer->weights + u * lut->unit_bytes, *tables = d->tables;
        lut->tables(d->levels + u * lut->unit, n, d->tables);
        for (int64_t b = 0; b < blocks; b++)
            lut->product(weights + b * layer->length * lut->unit_bytes, 0, &tables, 0, 1, 1, n,
                         d->acc + b * layer->block, layer->rows);
    }
    const bbn_epilogue e = {layer->correction, layer->scale, layer->shift, step, -INFINITY, INFINITY, zero};
    k->finish(d->acc, rows, &e, out);
}

/* neighbouring pairs of each head, turned by the position's angles */
static void turn(const bbn_decoder *d, float *x, int64_t heads) {
    const int64_t half = head_size(&d->shape) / 2;
    const float *cosine = d->cosine + d->position * half, *sine = d->sine + d->position * half;
    for (int64_t h = 0; h < heads; h++, x += 2 * half)
        for (int64_t i = 0; i < half; i++) {
            const float even = x[2 * i], odd = x[2 * i + 1];
            x[2 * i] = even * cosine[i] - odd * sine[i], x[2 * i + 1] = even * sine[i] + odd * cosine[i];
        }
}

static void attend(bbn_decoder *d, block *b) {
    const bbn_decoder_shape *s = &d->shape;
    const int64_t head = head_size(s), few = narrow(s);
    float *q = d->wide, *k = q + s->width, *v = k + few;
    multiply(d, &b->qkv, d->x, q);
    turn(d, q, s->heads);
    turn(d, k, s->kv_heads);
    for (int64_t h = 0; h < s->kv_heads; h++) {
        const int64_t at = (h * s->context + d->position) * head;
        memcpy(b->keys + at, k + h * head, (size_t)(4 * head));
        memcpy(b->values + at, v + h * head, (size_t)(4 * head));
    }
    for (int64_t h = 0; h < s->heads; h++) {
        const int64_t at = h / (s->heads / s->kv_heads) * s->context * head;
        d->kernels->attend(q + h * head, b->keys + at, b->values + at, d->position + 1, head, d->scores,
                           d->mixed + h * head);
    }
    multiply(d, &b->output, d->mixed, d->wide);
    d->kernels->accumulate(d->wide, s->width, d->x);
}

static void feed_forward(bbn_decoder *d, block *b) {
    const bbn_decoder_shape *s = &d->shape;
    const bbn_kernels *k = d->kernels;
    float *gate = d->wide, *up = gate + s->feed_forward;
    multiply(d, &b->gate_up, d->x, gate);
    k->function(BBN_SILU, gate, s->feed_forward, 0, d->gated);
    k->product(d->gated, up, s->feed_forward, -INFINITY, INFINITY, d->mixed);
    multiply(d, &b->down, d->mixed, d->wide);
    k->accumulate(d->wide, s->width, d->x);
}

static void embed(bbn_decoder *d, int64_t token) {
    const int64_t width = d->shape.width, first = token * width;
    if (!d->sign) {
        memcpy(d->x, d->embedding + first, (size_t)(4 * width));
        return;
    }
    for (int64_t i = 0; i < width; i++) {
        const int64_t at = first + i;
        d->x[i] = d->sign[at >> 3] >> (at & 7) & 1 ? d->embedding[i] : -d->embedding[i];
    }
}

int bbn_decoder_run(bbn_decoder *d, const int64_t *tokens, int64_t count, float *logits, int64_t num_logits) {
    const bbn_decoder_shape *s = &d->shape;
    if (count < 1 || count > s->context - d->position || num_logits != s->vocabulary) return BBN_OUT_OF_RANGE;
    for (int64_t i = 0; i < count; i++)
        if (tokens[i] < 0 || tokens[i] >= s->vocabulary) return BBN_OUT_OF_RANGE;
    for (int64_t i = 0; i < count; i++, d->position++) {
        embed(d, tokens[i]);
        for (int64_t b = 0; b < s->depth; b++) {
            attend(d, &d->blocks[b]);
            feed_forward(d, &d->blocks[b]);
        }
    }
    multiply(d, &d->output, d->x, logits);
    for (int64_t i = 0; i < num_logits; i++)
        if (!isfinite(logits[i])) return BBN_OVERFLOW;
    return BBN_OK;
}

void bbn_decoder_reset(bbn_decoder *d) { d->position = 0; }
