/* A network made ready for one instruction set: weights in the order of its kernels, and all memory that runs need. */
#ifndef BBN_NET_H
#define BBN_NET_H

#include "bayesbinn.h"
#include "kernels.h"
#include "pool.h"
#include "program.h"

enum { BBN_MAX_BATCH = 64 };

/* how a layer is computed */
typedef enum {
    BBN_PLAIN,   /* no weights */
    BBN_TAPS,    /* look-up product; one run of tables for each input pixel, shared by all taps that meet it */
    BBN_GATHER,  /* look-up product; the few channels of all taps are gathered first */
    BBN_XOR,     /* 1 bit times 1 bit */
    BBN_DIRECT,  /* binary with groups: one product after the other */
    BBN_FLOAT,   /* real weights */
    BBN_FLOAT_GROUPS,
} bbn_method;

typedef struct {
    const bbn_op *op;
    bbn_method method;
    int block;             /* rows in a block of the kernel */
    int64_t rows;          /* output channels rounded up to whole blocks */
    int64_t segments;      /* runs of inputs, see kernels.h */
    int64_t length;        /* units, words or channels in a segment */
    int unit;              /* look-up: activations in a unit */
    int64_t table_bytes;   /* look-up: of all units of a segment */
    int passes;            /* 2 for int16: high and low bytes */
    int64_t network_bytes; /* of the weights of one network */
    uint8_t *weights;
    int32_t *correction; /* look-up: sum of the weights of each row; sign: the same for each tap (taps, rows) */
    float *scale, *shift;
} bbn_layer;

/* one thread's own memory */
typedef struct {
    int8_t *levels[2];
    int32_t *acc;
    const void **pointers;
} bbn_scratch;

struct bbn_net {
    bbn_program program;
    const bbn_kernels *kernels;
    bbn_pool *pool;
    bbn_layer *layers;
    int64_t tile;    /* inputs that go through the network together */
    int *slot;       /* of each value: index into `slots`, -1 for the input and the output */
    float **slots;
    int64_t num_slots;
    float *entry, *leave; /* input and output of the tile, channels last; NULL if they have but one pixel */
    uint8_t *tables;      /* look-up tables, bits, or levels of the operation in hand */
    int8_t *gathered[2];
    uint8_t *padding; /* tables of a pixel outside the image, for each input of the tile */
    float *zeros;     /* a pixel of zeros */
    bbn_scratch *scratch;
};

/* In prepare.c; 0 or -1 (out of memory). */
int bbn_layer_prepare(bbn_layer *layer, const bbn_op *op, const bbn_kernels *kernels, int64_t num_networks);
void bbn_layer_free(bbn_layer *layer);
void *bbn_allocate(int64_t bytes); /* zeroed, aligned to 64 bytes; NULL if out of memory */
static inline int64_t bbn_round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/* In run.c: `rows` and `columns` swapped. */
void bbn_transpose(const float *x, int64_t rows, int64_t columns, float *out);

/* In run.c: one operation on `batch` inputs. */
void bbn_run_op(bbn_net *net, const bbn_layer *layer, const float *x, const float *y, int64_t batch, int64_t network,
                float *out);

#endif
