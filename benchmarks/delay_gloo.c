/* Preloaded into a process (LD_PRELOAD): the threads of gloo take the mutex of their queue late, by up to
   GLOO_DELAY_MS milliseconds.

   A thread of gloo drops the tensors of its last work under that mutex. If Python is ending by then, the thread's
   request for the interpreter ends the process with "terminate called without an active exception". A late mutex
   makes that rare moment common. The queue's mutex is the one with which these threads wait for work.

   cc -O2 -shared -fPIC -o delay_gloo.so benchmarks/delay_gloo.c -ldl
   GLOO_DELAY_MS=1500 LD_PRELOAD=$PWD/delay_gloo.so python ... */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

static int (*lock)(pthread_mutex_t *);
static int (*wait_for)(pthread_cond_t *, pthread_mutex_t *);
static long delay_ms;
static _Thread_local pthread_mutex_t *queue;

__attribute__((constructor)) static void start(void) {
    const char *text = getenv("GLOO_DELAY_MS");
    delay_ms = text ? atol(text) : 0;
    lock = (int (*)(pthread_mutex_t *))dlsym(RTLD_NEXT, "pthread_mutex_lock");
    wait_for = (int (*)(pthread_cond_t *, pthread_mutex_t *))dlsym(RTLD_NEXT, "pthread_cond_wait");
}

int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex) {
    char name[16] = "";
    if (!wait_for) start();
    if (!queue && prctl(PR_GET_NAME, name) == 0 && strcmp(name, "pt_gloo_runloop") == 0) queue = mutex;
    return wait_for(condition, mutex);
}

int pthread_mutex_lock(pthread_mutex_t *mutex) {
    if (!lock) start(); /* taken by the loader before our constructor */
    if (queue && mutex == queue) {
        struct timespec pause;
        clock_gettime(CLOCK_MONOTONIC, &pause);
        long ms = pause.tv_nsec / 1000 % (delay_ms + 1); /* as good as random */
        pause = (struct timespec){ms / 1000, ms % 1000 * 1000000};
        nanosleep(&pause, NULL);
    }
    return lock(mutex);
}
