/* What Arrow's own threads do for a task counts for the task.
 *
 * Arrow keeps two pools of threads, for computing and for input and output, which any
 * task's work goes to.  Their SpawnReal is replaced (as the memory pool's functions are,
 * see arrow.c): the job that is handed over gets a cover that sets the task of whoever
 * handed it over while it runs.
 *
 * What is assumed, beside what arrow.c does: the job is a FnOnce<void()>, which is one
 * pointer to an object with virtual functions (two destructors, then the call) and comes
 * by reference; hints are 32 bytes and come by value.  As of Arrow 13 to 26.
 *
 * A thread that the pool starts meanwhile is nobody's: it will serve any task.
 */
#include "native.h"

#include <dlfcn.h>

#if defined(__x86_64__)

typedef struct {
    int32_t priority;
    int64_t io_size, cpu_cost, external_id;
} hints_t;

typedef void *(*spawn_t)(void *status, void *pool, hints_t hints, void **job, void *stop,
                         void *callback);

/* An object of C++ as far as it is used: its functions are virtual. */
typedef struct job {
    void (**functions)(struct job *);
} job_t;

enum { DESTROY, DELETE, CALL };

/* A job with a cover, which is a job, too. */
typedef struct {
    job_t job;
    job_t *inner;
    ref_t task;
} cover_t;

static void cover_destroy(job_t *job) {
    cover_t *cover = (cover_t *)job;
    cover->inner->functions[DELETE](cover->inner);
}

static void cover_delete(job_t *job) {
    cover_destroy(job);
    real.free(job);
}

static void cover_call(job_t *job) {
    cover_t *cover = (cover_t *)job;
    ref_t before = me.now;
    if (me.pending != 0) {
        count_step(me.pending);
    }
    me.now = cover->task;
    cover->inner->functions[CALL](cover->inner);
    if (me.pending != 0) {
        count_step(me.pending);
    }
    me.now = before;
}

static void (*cover_functions[])(job_t *) = {NULL, NULL, cover_destroy, cover_delete,
                                             cover_call};

static swap_t pools[2];
static spawn_t former_spawn;

static void *hook_spawn(void *status, void *pool, hints_t hints, void **job, void *stop,
                        void *callback) {
    ref_t task = me.now;
    cover_t *cover = NULL;
    if (task.task != NULL && *job != NULL) {
        cover = real.malloc(sizeof *cover);
    }
    if (cover != NULL) {
        *cover = (cover_t){{cover_functions + AHEAD}, *job, task};
        *job = cover;
    }
    me.now.task = NULL;
    void *result = former_spawn(status, pool, hints, job, stop, callback);
    me.now = task;
    return result;
}

HIDDEN int jobs_attached(void) { return swap_is_set(&pools[0]); }

HIDDEN void jobs_detach(void) {
    for (int i = 0; i < 2; i++) {
        swap_undo(&pools[i]);
    }
}

HIDDEN const char *jobs_attach(void *library) {
    static const char *const getters[] = {"_ZN5arrow8internal16GetCpuThreadPoolEv",
                                          "_ZN5arrow2io8internal15GetIOThreadPoolEv"};
    size_t n = 0;
    void **functions = table_of(library, "_ZTVN5arrow8internal10ThreadPoolE", &n);
    int spawn = functions == NULL
                    ? -1
                    : index_of(library, functions, n,
                               "_ZN5arrow8internal10ThreadPool9SpawnRealENS0_9TaskHintsENS"
                               "0_6FnOnceIFvvEEENS_9StopTokenEONS3_IFvRKNS_6StatusEEEE");
    if (spawn < 0) {
        return "what its threads do cannot be told apart";
    }
    for (int i = 0; i < 2; i++) {
        void *(*pool)(void) = (void *(*)(void))(uintptr_t)dlsym(library, getters[i]);
        if (pool == NULL || !swap_prepare(&pools[i], pool(), n) ||
            pools[i].former != functions) {
            pools[i].former = NULL; /* it may be as it was another time */
            jobs_detach();
            return "its pools of threads are not as they were when this was written";
        }
        former_spawn = (spawn_t)(uintptr_t)functions[spawn];
        pools[i].table[AHEAD + spawn] = (void *)(uintptr_t)hook_spawn;
        swap_set(&pools[i]);
    }
    return NULL;
}

#else

HIDDEN const char *jobs_attach(void *library) {
    (void)library;
    return "its calls are known on x86-64 only";
}

HIDDEN int jobs_attached(void) { return 0; }
HIDDEN void jobs_detach(void) {}

#endif
