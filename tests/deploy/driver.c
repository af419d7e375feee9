/* Runs one program with the library, for machines that are only emulated: driver ISA THREADS < input > output
 * input: int64 words, bytes, batch, first, count, outputs; then the words, the bytes, and the floats of x */
#include <stdio.h>
#include <stdlib.h>

#if defined(_WIN32)
#include <fcntl.h>
#include <io.h>
#endif

#include "../../csrc/bayesbinn.h"

static void *take(size_t size, size_t count) {
    void *memory = malloc(size * count + 1);
    if (!memory || fread(memory, size, count, stdin) != count) exit(3);
    return memory;
}

int main(int argc, char **argv) {
    char error[256];
    if (argc != 3) return 2;
#if defined(_WIN32)
    _setmode(0, _O_BINARY), _setmode(1, _O_BINARY); /* bytes, not lines */
#endif
    int64_t *head = take(8, 7);
    int64_t *words = take(8, (size_t)head[0]);
    uint8_t *data = take(1, (size_t)head[1]);
    float *x = take(4, (size_t)(head[2] * head[6])), *out = malloc(4 * (size_t)head[5]);
    bbn_net *net = bbn_create(words, head[0], data, head[1], bbn_isa_find(argv[1]), atoi(argv[2]),
                              INT64_MAX, error, sizeof error);
    if (!net) return fprintf(stderr, "%s\n", error), 1;
    free(data); /* the library must have copied it */
    if (bbn_run(net, x, head[2] * head[6], head[3], head[4], out, head[5])) return 1;
    fwrite(out, 4, (size_t)head[5], stdout);
    bbn_free(net);
    free(head), free(words), free(x), free(out);
    return 0;
}
