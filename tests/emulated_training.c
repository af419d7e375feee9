/* usage: driver ISA THREADS < (int64 n, seed, type; natural; grad) > (float32 draw; natural after a step) */
#include <stdio.h>
#include <stdlib.h>

#include "../csrc/bayesbinn.h"

int main(int argc, char **argv) {
    int64_t head[3];
    if (argc != 3 || fread(head, 8, 3, stdin) != 3) return 2;
    size_t n = (size_t)head[0], size = head[2] == BBN_BFLOAT16 ? 2 : 4;
    char *natural = malloc(n * size), *grad = malloc(n * size);
    float *weight = malloc(n * 4);
    if (fread(natural, size, n, stdin) != n || fread(grad, size, n, stdin) != n) return 2;
    const int isa = bbn_isa_find(argv[1]);
    bbn_draw_job draw = {.n = head[0], .seed = &head[1], .natural = natural, .weight = weight,
                         .natural_type = (int32_t)head[2], .weight_type = BBN_FLOAT32};
    bbn_update_job update = {.n = head[0], .seed = &head[1], .natural = natural, .grad = grad, .type = (int32_t)head[2],
                             .collected = 1, .decay = 0.75f, .step = -3.3f, .prior_value = 0.1f};
    if (bbn_draw(&draw, isa, atoi(argv[2])) || bbn_update(&update, isa, atoi(argv[2]))) return 1;
    fwrite(weight, 4, n, stdout);
    fwrite(natural, size, n, stdout);
    return 0;
}
