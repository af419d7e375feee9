/* The table of instruction sets, slowest first. */
#include "isa.h"

#include <string.h>

#include "bayesbinn.h"

static int always(void) { return 1; }

#if defined(__x86_64__)
#include <cpuid.h>

/* Asked of the processor itself: __builtin_cpu_supports finds nothing where the C library is not GCC's (zig's, say). */
enum {
    SAVED = 1u << 27, POPCNT = 1u << 23,                               /* leaf 1, ecx */
    AVX2 = 1u << 5, F = 1u << 16, DQ = 1u << 17, BW = 1u << 30,        /* leaf 7, ebx; and VL, bit 31 */
    VBMI = 1u << 1, VNNI = 1u << 11, VPOPCNTDQ = 1u << 14,             /* leaf 7, ecx */
    YMM = 6, ZMM = 0xe6,                                               /* registers that the system saves */
};

static int has(unsigned registers, unsigned ebx_wanted, unsigned ecx_wanted) {
    unsigned eax, ebx, ecx, edx, saved, high;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & SAVED) || !(ecx & POPCNT)) return 0;
    __asm__ volatile("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    if ((saved & registers) != registers || !__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return 0;
    return (ebx & ebx_wanted) == ebx_wanted && (ecx & ecx_wanted) == ecx_wanted;
}

static int has_avx2(void) { return has(YMM, AVX2, 0); }

static int has_avx512(void) { return has(ZMM, AVX2 | F | DQ | BW | 1u << 31, VBMI | VNNI | VPOPCNTDQ); }
#endif

#if defined(__wasm__) /* a page does not train */
#define TRAINING(set) NULL
#else
#define TRAINING(set) &set
#endif

static const bbn_isa sets[] = {
    {"portable", always, &bbn_portable, TRAINING(bbn_training_portable)},
#if defined(__x86_64__)
    {"avx2", has_avx2, &bbn_avx2, &bbn_training_avx2},
    {"avx512", has_avx512, &bbn_avx512, &bbn_training_avx512},
#elif defined(__aarch64__)
    {"neon", always, &bbn_neon, &bbn_training_neon},
#elif defined(__wasm__)
    {"wasm", always, &bbn_wasm, NULL},
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
