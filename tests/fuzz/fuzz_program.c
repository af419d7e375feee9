/* Coverage-guided fuzzing of what reads a program, prepares it and runs it: libFuzzer, built by fuzz_program.py.
 *
 * An input is one int64, the number of words; the words; the data.  What is accepted is run, on every instruction set
 * that this machine has: all must accept it, and give the same bits. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../csrc/bayesbinn.h"
#include "../../csrc/program.h"

enum { BATCH = 2, MAX_COST = 1 << 18, MAX_MEMORY = 1 << 26 };

static void check(int truth, const char *what) {
    if (truth) return;
    fprintf(stderr, "wrong: %s\n", what);
    abort();
}

/* the sizes of input and output, and what a run costs, of a program that can be read */
static int measure(const int64_t *words, int64_t num_words, const uint8_t *data, int64_t num_bytes, int64_t *in,
                   int64_t *out, int64_t *networks) {
    char error[256];
    bbn_program program;
    if (bbn_program_read(&program, words, num_words, data, num_bytes, error, sizeof error)) return 0;
    double cost = 0;
    for (int64_t i = 0; i < program.num_ops; i++) {
        const bbn_op *op = &program.ops[i];
        const double taps = (double)bbn_pixels(op->shape) * (double)bbn_taps(op);
        const double each = op->kind == BBN_MATMUL ? (double)op->source.channels : (double)bbn_fan_in(op);
        const double product = op->kind <= BBN_REAL || op->kind == BBN_MATMUL ? each * (double)bbn_size(op->shape) : 0;
        cost += product + 16 * taps + (double)bbn_size(op->shape) * (double)bbn_taps(op) + (double)bbn_size(op->source);
    }
    *in = bbn_size(program.input), *out = bbn_size(program.ops[program.num_ops - 1].shape);
    *networks = 1 + program.num_samples;
    bbn_program_free(&program);
    return cost * (double)*networks <= MAX_COST;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
    int64_t num_words, in, out, networks;
    if (size < 8) return 0;
    memcpy(&num_words, input, 8);
    if (num_words < 0 || num_words > (int64_t)(size - 8) / 8) return 0;
    const int64_t num_bytes = (int64_t)size - 8 - 8 * num_words;
    int64_t *words = malloc((size_t)(8 * num_words)); /* of the exact size, so that AddressSanitizer sees */
    uint8_t *data = malloc((size_t)num_bytes);
    memcpy(words, input + 8, (size_t)(8 * num_words));
    memcpy(data, input + 8 + 8 * num_words, (size_t)num_bytes);
    const int small = measure(words, num_words, data, num_bytes, &in, &out, &networks);
    float *x = NULL, *first = NULL, *again = NULL;
    for (int isa = 0; isa < bbn_isa_count(); isa++) {
        char error[256];
        if (bbn_isa_find(bbn_isa_name(isa)) < 0) continue;
        bbn_net *net = bbn_create(words, num_words, data, num_bytes, isa, 1, MAX_MEMORY, error, sizeof error);
        check(net || error[0], "refused without a word");
        if (net && small) {
            const int64_t num_x = BATCH * in, num_out = BATCH * out * networks;
            if (!x) {
                x = malloc((size_t)(4 * num_x));
                first = malloc((size_t)(4 * num_out)), again = malloc((size_t)(4 * num_out));
                for (int64_t i = 0; i < num_x; i++) x[i] = (float)(i * 7919 % 257 - 128) / 64;
            }
            float *to = isa ? again : first;
            check(bbn_run(net, x, num_x, 0, networks, to, num_out) == BBN_OK, "its own sizes are refused");
            check(!isa || !memcmp(first, again, (size_t)(4 * num_out)), "instruction sets disagree");
            check(bbn_run(net, x, num_x, 0, networks, to, num_out + 1) == BBN_OUT_OF_RANGE, "a size too large");
            check(bbn_run(net, x, num_x, 1, networks, to, num_out) == BBN_OUT_OF_RANGE, "a network too many");
        }
        bbn_free(net);
    }
    free(words), free(data), free(x), free(first), free(again);
    return 0;
}
