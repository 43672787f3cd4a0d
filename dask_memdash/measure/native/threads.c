/* A thread that a task starts counts for the task, until the task ends.
 *
 * pthread_create() is wrapped as malloc is.  The new thread begins with its creator's
 * task; the task's generation tells it when that has ended.
 */
#include "native.h"

typedef struct {
    void *(*start)(void *);
    void *argument;
    ref_t task;
} start_t;

static void *run(void *given) {
    start_t begin = *(start_t *)given;
    real.free(given);
    me.now = begin.task;
    void *result = begin.start(begin.argument);
    if (me.pending != 0) {
        count_step(me.pending);
    }
    me.now.task = NULL;
    return result;
}

HIDDEN int hook_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                               void *(*start)(void *), void *argument) {
    start_t *begin = me.now.task != NULL ? real.malloc(sizeof *begin) : NULL;
    if (begin == NULL) {
        return real.pthread_create(thread, attributes, start, argument);
    }
    *begin = (start_t){start, argument, me.now};
    int error = real.pthread_create(thread, attributes, run, begin);
    if (error != 0) {
        real.free(begin);
    }
    return error;
}
