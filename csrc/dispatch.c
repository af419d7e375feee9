/* Which instruction sets were compiled in, and which this machine can run. */
#include <string.h>

#include "bayesbinn.h"
#include "kernels.h"

extern const bbn_kernels bbn_portable;
#if defined(__x86_64__)
extern const bbn_kernels bbn_avx2, bbn_avx512;
static const bbn_kernels *const sets[] = {&bbn_portable, &bbn_avx2, &bbn_avx512};
#elif defined(__aarch64__)
extern const bbn_kernels bbn_neon;
static const bbn_kernels *const sets[] = {&bbn_portable, &bbn_neon};
#else
static const bbn_kernels *const sets[] = {&bbn_portable};
#endif

int bbn_isa_count(void) { return (int)(sizeof sets / sizeof *sets); }

const char *bbn_isa_name(int index) { return index < 0 || index >= bbn_isa_count() ? 0 : sets[index]->name; }

const bbn_kernels *bbn_kernels_named(const char *name) {
    for (int i = 0; i < bbn_isa_count(); i++)
        if (!strcmp(sets[i]->name, name)) return sets[i];
    return 0;
}

int bbn_isa_available(const char *name) {
    const bbn_kernels *found = bbn_kernels_named(name);
    return found && found->available();
}
