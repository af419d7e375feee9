/* The table of instruction sets, slowest first. */
#include "isa.h"

#include <string.h>

#include "bayesbinn.h"

static int always(void) { return 1; }

#if defined(__x86_64__)
static int has_avx2(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt");
}

static int has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vpopcntdq");
}
#endif

static const bbn_isa sets[] = {
    {"portable", always, &bbn_portable, &bbn_training_portable},
#if defined(__x86_64__)
    {"avx2", has_avx2, &bbn_avx2, &bbn_training_avx2},
    {"avx512", has_avx512, &bbn_avx512, &bbn_training_avx512},
#elif defined(__aarch64__)
    {"neon", always, &bbn_neon, &bbn_training_neon},
#endif
};

int bbn_isa_count(void) { return (int)(sizeof sets / sizeof *sets); }

const char *bbn_isa_name(int index) { return index < 0 || index >= bbn_isa_count() ? NULL : sets[index].name; }

const bbn_isa *bbn_isa_at(int index) {
    return index >= 0 && index < bbn_isa_count() && sets[index].available() ? &sets[index] : NULL;
}

int bbn_isa_find(const char *name) {
    for (int i = 0; i < bbn_isa_count(); i++)
        if (!strcmp(sets[i].name, name)) return bbn_isa_at(i) ? i : -1;
    return -1;
}
