/* Packed binary networks: the public interface of the library.
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
BBN_PUBLIC int bbn_isa_available(const char *name);

/* A network, or NULL with a sentence in `error` (of `error_size` bytes).  Copies what it needs from both arrays. */
BBN_PUBLIC bbn_net *bbn_create(const int64_t *program, int64_t num_words, const uint8_t *data, int64_t num_bytes,
                               const char *isa, int threads, char *error, int error_size);

/* Run networks first ... first + count - 1 (0 is the mode) on `batch` inputs; `out` is (count, batch, C, H, W).
 * Returns 0, 1 if the arguments are out of range, or 2 if x holds NaN or inf.  One call at a time for each network. */
BBN_PUBLIC int bbn_run(bbn_net *net, const float *x, int64_t batch, int64_t first, int64_t count, float *out);

BBN_PUBLIC void bbn_free(bbn_net *net);

#endif
