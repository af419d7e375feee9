/* Runs the exported network on the inputs of inputs.h, on a bare emulated processor; prints outputs and time by semihosting. */
#include "inputs.h"
#include "net.h"

#if defined(__riscv)
enum { TICK_SHIFT = 0 };
/* the three instructions must not be compressed, nor lie on two pages */
__attribute__((naked, noinline, aligned(16))) static int semihost(int operation, const void *argument) {
    (void)operation, (void)argument; /* in a0 and a1 */
    __asm__ volatile(".option push\n.option norvc\nslli x0, x0, 0x1f\nebreak\nsrai x0, x0, 7\nret\n.option pop");
}
static unsigned ticks(void) {
    unsigned count;
    __asm__ volatile(".option push\n.option arch, +zicsr\ncsrr %0, mcycle\n.option pop" : "=r"(count));
    return count;
}
static void prepare(void) {}
void reset(void);
__attribute__((naked, section(".vectors"))) void start(void) { __asm__ volatile("la sp, stack_top\nj reset"); }
#else
enum { TICK_SHIFT = 8 };
#define REGISTER(at) (*(volatile unsigned *)(at))
static int semihost(int operation, const void *argument) {
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}
static unsigned ticks(void) { return 0u - (REGISTER(0xE000E018) << 8); } /* of 24 bits, counting down */
static void prepare(void) {
#if defined(__ARM_FP)
    REGISTER(0xE000ED88) |= 0xFu << 20;
    __asm__ volatile("dsb\nisb");
#endif
    REGISTER(0xE000E014) = 0xffffffu, REGISTER(0xE000E018) = 0, REGISTER(0xE000E010) = 5; /* the system timer */
}
void reset(void);
extern char stack_top[];
__attribute__((section(".vectors"), used)) static void *const vectors[] = {stack_top, (void *)reset};
#endif

void *memcpy(void *to, const void *from, unsigned n) {
    char *t = to;
    for (unsigned i = 0; i < n; i++) t[i] = ((const char *)from)[i];
    return to;
}
void *memset(void *to, int value, unsigned n) {
    char *t = to;
    for (unsigned i = 0; i < n; i++) t[i] = (char)value;
    return to;
}

static void print(unsigned word) {
    char text[10];
    for (int i = 0; i < 8; i++) text[i] = "0123456789abcdef"[word >> (28 - 4 * i) & 15];
    text[8] = '\n', text[9] = 0;
    semihost(4, text);
}

__attribute__((used)) static void run(void) {
    static float y[NET_OUTPUTS];
    for (int i = 0; i < NUM_INPUTS; i++) {
        unsigned before = ticks();
        net_run((const float *)inputs[i], y);
        print((ticks() - before) >> TICK_SHIFT);
        for (int k = 0; k < NET_OUTPUTS; k++) {
            unsigned word;
            __builtin_memcpy(&word, &y[k], 4);
            print(word);
        }
    }
    semihost(0x18, (const void *)0x20026);
}

void reset(void) {
    prepare();
    __asm__ volatile("" ::: "memory");
    run();
    for (;;) continue;
}
