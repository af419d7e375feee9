#include "memory.h"

#include <stdlib.h>

enum { LINE = 64 };

void *bbn_take(bbn_memory *memory, int64_t bytes) {
    const int64_t whole = bbn_round_up(bytes, LINE) + 2 * LINE; /* a link to the block before, and room to align */
    memory->bytes += whole;
    if (memory->counting || memory->failed) return NULL;
    void **block = calloc(1, (size_t)whole);
    if (!block) return memory->failed = 1, NULL;
    *block = memory->blocks;
    memory->blocks = block;
    return (void *)(((uintptr_t)block + 2 * LINE - 1) / LINE * LINE);
}

void bbn_release(bbn_memory *memory) {
    for (void **block = memory->blocks, **next; block; block = next) {
        next = *block;
        free(block);
    }
    *memory = (bbn_memory){0};
}
