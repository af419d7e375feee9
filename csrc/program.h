/* The program: what bbn_create reads, checked against the sizes of the data before anything is used.
 *
 * Words (int64):  [0] number of operations  [1-3] C, H, W of the input  [4] number of samples
 * then BBN_OP_WORDS words for each operation, in the order of the enum below; floats are given by their bits.
 * Value 0 is the input, operation k writes value k + 1, the last value is the output.
 */
#ifndef BBN_PROGRAM_H
#define BBN_PROGRAM_H

#include <stddef.h>
#include <stdint.h>

/* in the order of `operation.FUNCTIONS`; functions.h has them */
typedef enum {
    BBN_SIGMOID, BBN_TANH, BBN_SILU, BBN_GELU, BBN_GELU_TANH, BBN_MISH, BBN_ELU, BBN_LEAKY_RELU, BBN_HARDSIGMOID,
    BBN_HARDSWISH, BBN_NUM_FUNCTIONS
} bbn_function;
enum { BBN_HEADER_WORDS = 5, BBN_OP_WORDS = 48, BBN_MAX_DIMS = 8 };

typedef enum {
    BBN_BINARY, BBN_REAL, BBN_MAX_POOL, BBN_AVG_POOL, BBN_ADD, BBN_AFFINE, BBN_CLAMP, BBN_SIGN, BBN_FLATTEN,
    BBN_FUNCTION, BBN_NORMALIZE, BBN_SOFTMAX, BBN_MATMUL, BBN_CONCAT, BBN_VIEW, BBN_CONSTANT, BBN_MULTIPLY,
    BBN_RECURRENT,
    BBN_NUM_KINDS
} bbn_kind;

/* of recurrent layers, in the order of `operation.CELLS`; in a variant, 4 means reverse and 8 real weights */
typedef enum { BBN_GRU, BBN_LSTM, BBN_RNN_TANH, BBN_RNN_RELU } bbn_cell;

typedef enum { BBN_BITS1, BBN_INT8, BBN_INT16, BBN_INT6, BBN_NUM_ACTIVATIONS } bbn_activation;

enum {
    BBN_W_KIND, BBN_W_FIRST, BBN_W_SECOND, BBN_W_CHANNELS, BBN_W_KERNEL, BBN_W_STRIDE = 6, BBN_W_PADDING = 8,
    BBN_W_DILATION = 10, BBN_W_GROUPS = 12, BBN_W_ACTIVATION, BBN_W_FIXED, BBN_W_STEP, BBN_W_ZERO, BBN_W_LOW,
    BBN_W_HIGH, BBN_W_WEIGHTS, BBN_W_SCALE, BBN_W_SHIFT, BBN_W_VARIANT, BBN_W_PARAMETER, BBN_W_SHAPE,
    BBN_W_OFFSET = BBN_W_SHAPE + 3, BBN_W_SIZES, BBN_W_STRIDES = BBN_W_SIZES + BBN_MAX_DIMS,
    BBN_W_OWN = BBN_W_STRIDES + BBN_MAX_DIMS
};

typedef struct {
    int64_t channels, height, width;
} bbn_shape;

typedef struct {
    bbn_kind kind;
    int64_t inputs[2];
    bbn_shape source, other, shape; /* of the first input, the last, and the output */
    int64_t kernel[2], stride[2], padding[2], dilation[2], groups;
    bbn_activation activation;
    int fixed; /* step and zero are given; else they come from the range of each input */
    float step, low, high;
    int32_t zero;
    int variant;     /* recurrent: its cell and flags; function: which; concat: axis; matmul: transposed; normalize: 1 centers, 2 counts all pixels */
    float parameter; /* of a function, or of normalize */
    int64_t offset, sizes[BBN_MAX_DIMS], strides[BBN_MAX_DIMS]; /* of a view, unused dimensions first, of size 1 */
    const uint8_t *weights; /* bits: (1 + samples, bytes); real: floats (O, I/groups, kH, kW); constant: floats (C, H, W);
                             * into the data */
    const uint8_t *scale, *shift;
    int64_t rows; /* of scale, shift, real weights and value: 1, or one for each network */
} bbn_op;

typedef struct {
    int64_t num_ops, num_samples;
    bbn_shape input;
    bbn_op *ops; /* and after them, at num_ops + i, the product of recurrent operation i with its state */
} bbn_program;

/* Reads and checks; returns 0, or -1 with a sentence in `error`.  The program points into `data`. */
int bbn_program_read(bbn_program *program, const int64_t *words, int64_t num_words, const uint8_t *data,
                     int64_t num_bytes, char *error, size_t error_size);
void bbn_program_free(bbn_program *program);

static inline int bbn_num_inputs_of(bbn_kind kind) {
    return kind == BBN_ADD || kind == BBN_MULTIPLY || kind == BBN_CONCAT || kind == BBN_MATMUL ? 2 : 1;
}
static inline int64_t bbn_gates(const bbn_op *op) {
    static const int64_t gates[] = {3, 4, 1, 1};
    return gates[op->variant & 3];
}
static inline int64_t bbn_pixels(bbn_shape s) { return s.height * s.width; }
static inline int64_t bbn_size(bbn_shape s) { return s.channels * s.height * s.width; }
static inline int64_t bbn_taps(const bbn_op *op) { return op->kernel[0] * op->kernel[1]; }
static inline int64_t bbn_fan_in(const bbn_op *op) { return op->source.channels / op->groups * bbn_taps(op); }
static inline int bbn_levels(bbn_activation a) {
    return a == BBN_INT16 ? 32512 : a == BBN_INT8 ? 127 : a == BBN_INT6 ? 31 : 1;
}

#endif
