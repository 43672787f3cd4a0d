/* The native tally: what its parts share.
 *
 *   counters.c   a task's counters, each thread's counts
 *   slots.c      tasks, who owns which block
 *   sample.c     whose a small block is, of a sample
 *   residency.c  large blocks count what is resident of them
 *   reused.c     what of a block that came with pages in it nobody touched
 *   got.c        finds and points the loaded objects' slots at the wrappers
 *   family.c     the wrappers of malloc and its relatives
 *   threads.c    a thread that a task starts counts for the task
 *   small_objects.c  Python's small objects one by one, where arenas mislead
 *   pool_jobs.c  what pools of threads do for a task counts for the task
 *   arrow.c      Arrow's memory pool
 *   arrow_jobs.c what Arrow's own threads do for a task
 *   brake.c      refuses what would end the worker, where that is asked for
 *   module.c     the Python module: install, begin, end, state
 *
 * Every allocation of C and C++ code ends in a function of the malloc family, which
 * each loaded object calls through a slot of its global offset table (GOT).  Those
 * slots are pointed at wrappers, which call the real function and count.  No block gets
 * a header, so wrapped and bare calls can be mixed at will: hooks may come and go while
 * blocks live.
 *
 * Nothing here is ever unloaded or unmapped: a thread may be inside a wrapper for as
 * long as the process lives.
 */
#ifndef MEMDASH_NATIVE_H
#define MEMDASH_NATIVE_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../frames/lines.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define HIDDEN __attribute__((visibility("hidden")))

/* In the static TLS block a variable is one instruction away, and no first touch in a
 * new thread has to allocate. */
#define THREAD_LOCAL __thread __attribute__((tls_model("initial-exec")))

/* Blocks from so many bytes on are known one by one, with the task that made them, so
 * that whoever frees them takes them off that task.  Smaller ones are taken off the
 * task in the thread that frees them.  The C library takes blocks from here on from the
 * kernel one by one, which costs far more than a place in a table; below, a pair of
 * malloc and free would take two and a half times as long. */
#define OWNED ((size_t)128 << 10)

/* Blocks from so many bytes on count what is resident of them. */
#define RESIDENT ((size_t)1 << 20)

/* What goes uncounted of so many bytes is not worth a look. */
#define TRIFLE ((int64_t)256 << 10)

/* Of small ones a sample is known: one block for so many bytes. */
#define SAMPLED_SHIFT 18 /* 32 bits less those of SAMPLED */
#define SAMPLED ((size_t)1 << (32 - SAMPLED_SHIFT))

/* Small blocks are added up in the thread, and to the task in steps of so many bytes. */
#define STEP 4096

/* ---- counters.c and slots.c ------------------------------------------------------ */

/* What another process reads; see flight/format.py. */
typedef struct {
    int64_t net;  /* bytes allocated less bytes freed since begin() */
    int64_t peak; /* the most that the task held of its own, at least 0 */
    int64_t error; /* how far the peak may be off; others write it, too */
    int64_t filling; /* what net may lack by now, of blocks just made or being filled */
} counters_t;

typedef struct block block_t;

/* Words that a block was marked with when it came, at places all over its pages. */
enum { SAMPLES = 64 };

typedef struct samples {
    uintptr_t from; /* a page's start */
    size_t page, pages;
    uint64_t words[SAMPLES];
    size_t unsure; /* bytes of them that may be written or not */
    struct samples *next;
} samples_t;

/* Where a small block of the sample is, and of how many bytes. */
typedef struct {
    uintptr_t address;
    uint32_t size;
    uint32_t of; /* its task's generation and 1; another's: there is none */
} sampled_t;

/* What is known of a task's small blocks: sample.c. */
typedef struct {
    sampled_t *notes;
    size_t places, noted; /* in the table, and of them taken */
    int thinned;          /* how often each block came to stand for twice as much */
    int unnoted;          /* whether there was no memory for a note */
    int64_t others, others_told; /* what it freed of others', and what of it is counted */
    int64_t objects, objects_told; /* as much, of objects that count one by one */
    uint64_t variance;    /* of that estimate; its double deviation: */
    uint64_t noise;
} sample_t;

/* A task that runs, or did: never freed, since threads may point at it for good. */
typedef struct task {
    int lock;            /* guards the counters and the generation */
    uint32_t generation; /* one more with every end */
    counters_t *counters;
    void *place; /* where the line of its largest block stands; may be NULL */
    int by_objects; /* whether small objects count one by one; set at begin, under the GIL */
    /* guarded by the lock: of small objects, and the most that it was … */
    int64_t objects, most_objects;
    int64_t arenas, most_arenas; /* … and what arenas say of the same */
    int64_t most; /* that it held, since what is open of it was settled (residency.c) */
    int64_t others; /* what it freed that was there before it: off its net, and still in
                     * what it holds; of that, … */
    int64_t surmised; /* … what is known by its net alone, which fell below nothing */
    sample_t sample;
    /* guarded by table_lock */
    block_t *blocks;   /* that it owns */
    int64_t untouched; /* reserved by them, and not counted */
    int64_t filling;   /* as much of that as somebody may be about to touch */
    int64_t looked;    /* time spent on looks at them, in nanoseconds */
    int64_t begun;     /* monotonic, in nanoseconds; 0 until the first look */
    int64_t doubt;     /* what of its peak, … */
    int64_t doubt_of;  /* … if it still is this one, may never have been touched */
    int64_t at_most;   /* its peak is no more than that, or what was counted; … */
    int64_t said;      /* … and what its error has of that */
    struct task *next_free;
} task_t;

/* A task as it was at some time: if the generation has moved on, it is over. */
typedef struct {
    task_t *task;
    uint32_t generation;
} ref_t;

/* What is known of a task's peak when it ends, in bytes. */
typedef struct {
    int64_t doubt;    /* by how much it may be too high, … */
    int64_t short_by; /* … and by how much too low */
    int64_t others;   /* what the task freed that was there before it */
} ended_t;

/* A block of at least OWNED bytes that belongs to a task which runs. */
struct block {
    uintptr_t address;
    size_t size;
    size_t counted; /* of its bytes */
    size_t prefix;  /* bytes known to be resident from its start on */
    size_t filling; /* what may be touched by now, and is not counted */
    int still;      /* whole looks since it was last seen to be filled */
    size_t reused;  /* bytes that it came with, and where not NULL their marks */
    samples_t *samples;
    size_t doubt; /* what of its count may never have been touched, beside that */
    size_t theirs; /* what of its count was there before the task */
    int64_t peak_before; /* of its task, when it came */
    unsigned forked;     /* how often this process had forked when it came */
    task_t *owner;
    block_t *next_in_bucket;
    block_t *next_of_task, **to_this_of_task;
    block_t *next_open, **to_this_open; /* blocks that are not wholly resident yet */
};

/* A large block while it is being made larger or smaller, and so may move. */
typedef struct {
    ref_t owner;
    size_t counted; /* of it, and still is */
    size_t prefix;  /* as in block_t */
    size_t theirs;  /* as in block_t */
    size_t before;  /* its size */
    void *from;     /* where it was … */
    size_t unwritten; /* … and what of it was, though resident */
} moved_t;

typedef struct {
    ref_t now;       /* task NULL: count nothing */
    int64_t pending; /* of small blocks, not added to the task yet */
    int64_t objects; /* what of it are small objects, if they count one by one */
    int in_arena;    /* whether Python maps an arena just now */
    void *frames;    /* module.c's */
} thread_t;

extern HIDDEN THREAD_LOCAL thread_t me;
extern HIDDEN size_t owned_blocks; /* number of blocks in the table; read without lock */
extern HIDDEN pthread_mutex_t table_lock;
extern HIDDEN unsigned forks; /* of which this process is a child: refs are from before */
extern HIDDEN const lines_t *lines; /* of large blocks; NULL: nobody wants to know */
extern HIDDEN const int *watched;   /* how many of them are known */

HIDDEN void count_step(int64_t bytes);
HIDDEN void *for_good(size_t size);
HIDDEN void owned_came(void *block, size_t size, ref_t owner, size_t prefix, size_t kept,
                       size_t theirs);
HIDDEN int owned_gone(void *block, size_t size);
HIDDEN void owned_moves(moved_t *moved, void *block, size_t before, size_t after,
                        int copies);
HIDDEN void owned_moved(const moved_t *moved, void *block, size_t size, int copied);
HIDDEN void task_lock(task_t *task);
HIDDEN void task_unlock(task_t *task);
HIDDEN void add_to_locked(task_t *task, int64_t bytes);
HIDDEN void add_to_mine(int64_t bytes);
HIDDEN void others_go(int64_t bytes);
HIDDEN int64_t held_by(const task_t *task);
HIDDEN void add_if_it_runs(ref_t owner, int64_t bytes, int64_t others);
HIDDEN void add_to_task(task_t *task, int64_t bytes, int64_t others);
HIDDEN void take_off_task(task_t *task, int64_t bytes, int64_t others);
HIDDEN void found_in_task(task_t *task, int64_t more);
HIDDEN void settle(task_t *task, int64_t unseen);
HIDDEN void look_before_peak(task_t *task);
HIDDEN void say_filling(task_t *task, int64_t more);
HIDDEN void count_arena(int64_t bytes);
HIDDEN ref_t task_begin(counters_t *counters, void *place, int by_objects);
HIDDEN ended_t task_end(ref_t ended);
HIDDEN int still_runs(ref_t ref);
HIDDEN void slots_in_child(void);

/* Count small blocks in the current thread. */
static inline void count_small(int64_t bytes) {
    int64_t pending = me.pending + bytes;
    if (unlikely(pending >= STEP || pending <= -STEP)) {
        count_step(pending);
    }
    else {
        me.pending = pending;
    }
}

/* ---- sample.c -------------------------------------------------------------------- */

HIDDEN void sampled_came(uintptr_t address, size_t size);
HIDDEN void sampled_goes(uintptr_t address, size_t size, int object);
HIDDEN void sampled_moves(uintptr_t address, size_t size);
HIDDEN void sample_begins(sample_t *sample);
HIDDEN int64_t sample_noise(const sample_t *sample);

/* 32 bits of a block's address, as good as thrown. */
static inline uint32_t dice(uintptr_t address) {
    return (uint32_t)((address >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 32);
}

/* Whether a block is in the sample. */
static inline int sampled(const void *block, size_t size) {
    return dice((uintptr_t)block) < (uint64_t)size << SAMPLED_SHIFT;
}

/* Small blocks that come and go in a thread that counts. */
static inline void small_came(const void *block, size_t size) {
    if (unlikely(sampled(block, size))) {
        sampled_came((uintptr_t)block, size);
    }
    else {
        count_small((int64_t)size);
    }
}

/* It is about to be made larger or smaller: whosever it was, it still is. */
static inline void small_moves(const void *block, size_t size) {
    if (unlikely(sampled(block, size))) {
        sampled_moves((uintptr_t)block, size);
    }
    else {
        count_small(-(int64_t)size);
    }
}

static inline void small_goes(const void *block, size_t size) {
    if (unlikely(sampled(block, size))) {
        sampled_goes((uintptr_t)block, size, 0);
    }
    else {
        count_small(-(int64_t)size);
    }
}

/* Whether a block that goes may be anybody's. */
static inline int anybody_counts(void) {
    return me.now.task != NULL || __atomic_load_n(&owned_blocks, __ATOMIC_RELAXED) != 0 ||
           __atomic_load_n(__atomic_load_n(&watched, __ATOMIC_RELAXED),
                           __ATOMIC_RELAXED) != 0;
}

/* A block has come, in a thread that counts. */
static inline void block_came(void *block, size_t size) {
    if (likely(size < OWNED)) {
        small_came(block, size);
    }
    else {
        owned_came(block, size, me.now, size < RESIDENT ? size : 0, 0, 0);
    }
}

/* As much, whose bytes the allocator has set to 0 where they were not. */
static inline void zeroed_block_came(void *block, size_t size) {
    if (likely(size < OWNED)) {
        small_came(block, size);
    }
    else {
        owned_came(block, size, me.now, size < RESIDENT ? size : 0, size, 0);
    }
}

/* A block goes: must be said before it does, as its address may be used at once. */
static inline void block_goes(void *block, size_t size) {
    if (likely(size < OWNED)) {
        if (me.now.task != NULL) {
            small_goes(block, size);
        }
    }
    else {
        owned_gone(block, size);
    }
}

/* ---- residency.c: all with table_lock held -------------------------------------- */

HIDDEN void block_opens(block_t *block);
HIDDEN void block_closes(block_t *block);
HIDDEN void look_at_block(block_t *block);
HIDDEN void look_at_task(task_t *task, int last);
HIDDEN size_t resident_bytes(uintptr_t address, size_t size);
HIDDEN unsigned times_forked(void);
HIDDEN int residency_start(void);
HIDDEN void residency_in_child(void);
extern HIDDEN int looks_left_out;

/* ---- reused.c: all but the first with table_lock held ---------------------------- */

HIDDEN size_t reused_pages(uintptr_t address, size_t from, size_t size);
HIDDEN void reused_came(block_t *block, size_t from, size_t bytes);
HIDDEN size_t reused_unwritten(block_t *block);
HIDDEN void reused_goes(block_t *block, size_t less);
HIDDEN void reused_let_go(block_t *block);
HIDDEN int64_t reused_doubt(const task_t *task);
HIDDEN void reused_in_child(void);

/* ---- family.c ------------------------------------------------------------------ */

/* The functions that the process's objects call, found before anything is hooked. */
typedef struct {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void (*free)(void *);
    int (*posix_memalign)(void **, size_t, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    void *(*memalign)(size_t, size_t);
    size_t (*usable_size)(void *);
    int (*pthread_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    void *(*dlsym)(void *, const char *);
    void *(*mmap)(void *, size_t, int, int, int, off_t);
    void *(*mmap64)(void *, size_t, int, int, int, off_t);
} real_t;

extern HIDDEN real_t real;

HIDDEN void *hook_malloc(size_t size);
HIDDEN void *hook_calloc(size_t count, size_t size);
HIDDEN void *hook_realloc(void *old, size_t size);
HIDDEN void hook_free(void *block);
HIDDEN int hook_posix_memalign(void **block, size_t alignment, size_t size);
HIDDEN void *hook_aligned_alloc(size_t alignment, size_t size);
HIDDEN void *hook_memalign(size_t alignment, size_t size);
HIDDEN void *hook_mmap(void *at, size_t size, int protection, int flags, int fd, off_t from);
HIDDEN void *hook_mmap64(void *at, size_t size, int protection, int flags, int fd,
                         off_t from);

/* Bytes of files that this process has mapped, ever. */
extern HIDDEN uint64_t files_mapped;

HIDDEN uint64_t mapped_by_allocators(void);
extern HIDDEN uintptr_t counted_from, counted_to;

/* ---- threads.c ----------------------------------------------------------------- */

HIDDEN int hook_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                               void *(*start)(void *), void *argument);

/* ---- got.c --------------------------------------------------------------------- */

HIDDEN const char *got_find(void);
HIDDEN const char *got_allocator(void);
HIDDEN int got_look(int all);
HIDDEN int got_changed(void);
HIDDEN void got_arm(void);
HIDDEN void got_restore(void);
HIDDEN void got_in_child(void);
HIDDEN int got_slots(void);
extern HIDDEN int arrow_came;

/* ---- arrow.c ------------------------------------------------------------------- */

HIDDEN const char *arrow_attach(const char *path, int pool);
HIDDEN void arrow_detach(void);
HIDDEN int arrow_attached(void);

/* An object of C++ whose table of virtual functions is replaced by a changed copy. */
enum { FUNCTIONS = 24, AHEAD = 2 }; /* at most; and what stands before the first */

typedef struct {
    void **object; /* its first word is the pointer to the table */
    void **former;
    void *table[AHEAD + FUNCTIONS];
} swap_t;

HIDDEN void **table_of(void *library, const char *name, size_t *n);
HIDDEN int index_of(void *library, void **functions, size_t n, const char *name);
HIDDEN int swap_prepare(swap_t *swap, void *object, size_t n);
HIDDEN void swap_set(swap_t *swap);
HIDDEN int swap_is_set(const swap_t *swap);
HIDDEN void swap_undo(swap_t *swap);

/* ---- brake.c ------------------------------------------------------------------- */

HIDDEN int brake_refuses(size_t size);
HIDDEN void brake_in_child(void);

/* ---- arrow_jobs.c -------------------------------------------------------------- */

HIDDEN const char *jobs_attach(void *library);
HIDDEN int jobs_attached(void);
HIDDEN void jobs_detach(void);

#endif
