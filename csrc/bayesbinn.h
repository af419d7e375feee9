/* The public interface of the library: packed binary networks, and the two kernels of training.
 *
 * A network is created once from a program (a list of int64 words, see program.h) and the bytes of its tensors, and then
 * run with one call and no allocation.  Everything the caller passes is checked; nothing is read beyond it.
 * Inputs and outputs are float32, channels first: (batch, channels, height, width); inside, channels come last.
 */
#ifndef BAYESBINN_H
#define BAYESBINN_H

#include <stdint.h>

#if defined(_WIN32)
#define BBN_PUBLIC __declspec(dllexport)
#else
#define BBN_PUBLIC __attribute__((visibility("default")))
#endif

typedef struct bbn_net bbn_net;

/* Changes whenever a signature or the program's layout does. */
BBN_PUBLIC int bbn_abi(void);

/* The instruction sets compiled in, slowest first, and whether this machine can run one. */
BBN_PUBLIC int bbn_isa_count(void);
BBN_PUBLIC const char *bbn_isa_name(int index);
BBN_PUBLIC int bbn_isa_find(const char *name); /* its index; -1 if unknown, or this machine cannot run it */

/* A network, or NULL with a sentence in `error` (of `error_size` bytes).  Copies what it needs from both arrays.
 * `max_memory` bounds what it and one call of it may take, in bytes. */
BBN_PUBLIC bbn_net *bbn_create(const int64_t *program, int64_t num_words, const uint8_t *data, int64_t num_bytes,
                               int isa, int threads, int64_t max_memory, char *error, int error_size);

/* Run networks first ... first + count - 1 (0 is the mode) on the inputs in x, of `num_x` floats in all; `out`, of
 * `num_out` floats, is (count, batch, C, H, W).  Any number of threads may call it for one network, before and after a
 * fork: each call has memory of its own, which the network keeps for the next. */
enum { BBN_OK, BBN_OUT_OF_RANGE, BBN_NOT_FINITE, BBN_NO_MEMORY, BBN_OVERFLOW };
BBN_PUBLIC int bbn_run(bbn_net *net, const float *x, int64_t num_x, int64_t first, int64_t count, float *out,
                       int64_t num_out);

/* The same, and what the networks predict together.  For each input, `out` gets the mean class probabilities, and then
 * their entropy, the mean entropy of each network, the difference (mutual information) and the variation ratio, in nats.
 * `logits` and `labels` (of `count`) are room for the work.  BBN_OVERFLOW: a logit is not finite. */
enum { BBN_FIGURES = 4 };
BBN_PUBLIC int bbn_predict(bbn_net *net, const float *x, int64_t num_x, int64_t first, int64_t count, float *logits,
                           int64_t num_logits, int64_t *labels, double *out, int64_t num_out);

/* Floats of one input, and of one output. */
BBN_PUBLIC int64_t bbn_num_inputs(const bbn_net *net);
BBN_PUBLIC int64_t bbn_num_outputs(const bbn_net *net);

/* When no call of it is running. */
BBN_PUBLIC void bbn_free(bbn_net *net);

/* A decoder of text, of llama's architecture, whose matrices are +1 and -1; see runtime/decoder.py. */
typedef struct bbn_decoder bbn_decoder;

enum { BBN_MAX_DECODER = 1 << 24 }; /* of each size */

typedef struct {
    int64_t vocabulary, width, depth, heads, kv_heads, feed_forward, context;
    int32_t binary_embedding;
    float eps, base; /* of RMSNorm and of the rotary positions */
} bbn_decoder_shape;

/* NULL with a sentence in `error`.  `bits` are the matrices (outputs, inputs), each in whole bytes, a set bit is +1:
 * the embedding if it is binary, of each block queries, keys and values as one, output, gate and up as one, down; then
 * the output.  `floats`: the embedding (V, D) or its scales (D); of each block the norm (D), the scales of queries, keys
 * and values and of the output, the norm (D), the scales of gate and up and of down; the last norm (D), the scales of
 * the output (V).  Both are copied. */
BBN_PUBLIC bbn_decoder *bbn_decoder_create(const bbn_decoder_shape *shape, const uint8_t *bits, int64_t num_bytes,
                                           const float *floats, int64_t num_floats, int isa, char *error,
                                           int error_size);

/* The logits (V) of what follows `count` more tokens; BBN_OUT_OF_RANGE for a token that is none, or more than the context
 * holds, and then nothing is done.  One call at a time. */
BBN_PUBLIC int bbn_decoder_run(bbn_decoder *decoder, const int64_t *tokens, int64_t count, float *logits,
                               int64_t num_logits);
BBN_PUBLIC void bbn_decoder_reset(bbn_decoder *decoder); /* no token has been seen */
BBN_PUBLIC void bbn_decoder_free(bbn_decoder *decoder);

/* Training: what the Bayesian learning rule does for each weight, in one pass over memory.  Tensors are contiguous, of n
 * elements, float32 or (as `BBN_BFLOAT16` says) the upper halves of float32. */
enum { BBN_FLOAT32, BBN_BFLOAT16 };

typedef struct {
    int64_t n;
    const int64_t *seed;
    const void *natural;
    void *weight; /* +1 or -1 */
    int32_t natural_type, weight_type;
} bbn_draw_job;

/* One step of the rule; ratio = num_data / kl_weight, g = (natural - prior) + grad * ratio.
 *   plain without momentum:  natural <- (natural * decay + grad * step) + pull * prior      (step holds ratio)
 *   otherwise:  m <- m * beta + g * keep,  natural <- natural + m * step                    (without momentum: m = g)
 *   with second, a moment for each weight:  v <- v * beta2 + g * g * keep2,  and step times
 *               min(1, lr / (sqrt(v * scale2) + eps))
 *   with squares:  squares[b] is the sum of g * g over elements 1024 b ... 1024 b + 1023 */
typedef struct {
    int64_t n;
    const int64_t *seed; /* rounds a bfloat16 natural to either neighbour, right on average; unused for float32 */
    void *natural;
    const void *grad, *prior; /* both of natural's type; prior NULL: prior_value, in the plain step pull times it */
    float *momentum, *second, *squares; /* each may be NULL; second and squares not both */
    int32_t type, collected; /* collected: the plain step */
    float decay, step, pull, prior_value, ratio, beta, keep, beta2, keep2, scale2, lr, eps;
} bbn_update_job;

/* Return 0, or 1 if there is no such instruction set (an index below bbn_isa_count that this machine can run). */
BBN_PUBLIC int bbn_draw(const bbn_draw_job *job, int isa, int threads);
BBN_PUBLIC int bbn_update(const bbn_update_job *job, int isa, int threads);

#endif
