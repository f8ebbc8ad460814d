/* What a C programmer writes and leaves to the compiler: the yardstick of the mixer. */
#define _POSIX_C_SOURCE 200809L
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define FRAME 960

static int16_t saturate(int32_t value) {
    value = value > INT16_MAX ? INT16_MAX : value;
    value = value < INT16_MIN ? INT16_MIN : value;
    return (int16_t)value;
}

/* Everybody's mix: the sum of all without his own. */
void plain_minus_one(const int16_t *restrict in, int16_t *restrict out, int32_t *restrict sum, int parties) {
    memset(sum, 0, FRAME * sizeof *sum);
    for (int n = 0; n < parties; n++)
        for (int i = 0; i < FRAME; i++)
            sum[i] += in[n * FRAME + i];
    for (int n = 0; n < parties; n++)
        for (int i = 0; i < FRAME; i++)
            out[n * FRAME + i] = saturate(sum[i] - in[n * FRAME + i]);
}

/* A mix for each of the first `talkers`, and one for the rest. */
void plain_talkers(const int16_t *restrict in, int16_t *restrict out, int16_t *restrict shared,
                   int32_t *restrict sum, int parties, int talkers) {
    memset(sum, 0, FRAME * sizeof *sum);
    for (int n = 0; n < parties; n++)
        for (int i = 0; i < FRAME; i++)
            sum[i] += in[n * FRAME + i];
    for (int n = 0; n < talkers; n++)
        for (int i = 0; i < FRAME; i++)
            out[n * FRAME + i] = saturate(sum[i] - in[n * FRAME + i]);
    for (int i = 0; i < FRAME; i++)
        shared[i] = saturate(sum[i]);
}

/* What the calling thread has used. */
uint64_t peer_cpu_nanos(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t nanos(struct timeval it) {
    return (uint64_t)it.tv_sec * 1000000000u + (uint64_t)it.tv_usec * 1000u;
}

/* What all children that have ended used, in the system too. */
uint64_t peer_children_nanos(void) {
    struct rusage used = {0};
    getrusage(RUSAGE_CHILDREN, &used);
    return nanos(used.ru_utime) + nanos(used.ru_stime);
}
