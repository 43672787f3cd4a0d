/* Small objects of Python, one by one, while a task asks for it.
 *
 * Objects of up to 512 bytes are cut from arenas, which are shared by all threads and
 * outlive what was in them.  A task that finds room in arenas of others' is not seen by
 * new arenas, and one that takes a new arena pays for others.  So while such a task runs
 * the allocators of Python's `mem` and `object` domains are ours: they call what was
 * there and count.  Which tasks these are is small_objects.py's matter.
 *
 * What an object weighs stands in the head of its pool, 16 KiB that hold blocks of one
 * size: known by what allocates small, so a block that is freed is looked up only if its
 * pool was seen to be one.  A table by address says so; arenas that go take theirs out.
 *
 * What is assumed: the layout of a pool's head as of CPython 3.11 to 3.13, tested on
 * blocks of every size before the first use; another one (debug hooks, malloc instead of
 * arenas, other builds) leaves arenas as they are counted.  No pool is looked at before
 * the kernel has said that its page is there.
 *
 * Undone: when the last such task ends, if nobody has wrapped ours meanwhile; then ours
 * stay and pass everything on.  All under the GIL, as the two domains are.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "native.h"
#include "small_objects.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    SMALLEST = 16,
    LARGEST = 512,
    POOL_BITS = 14,
    POOL_HEAD = 48,
    SIZE_INDEX = 36, /* where in the head the size stands, a number of 32 bits */
    POOLS = 1 << 16, /* in the table: of 1 GiB */
};

static PyMemAllocatorEx next; /* of both domains */
static int tasks;             /* that count objects now */
static int usable;            /* 0 not tested yet, 1 yes, -1 no */
static uintptr_t *known;      /* numbers of pools, by their last bits */

static inline uintptr_t *place_of(uintptr_t pool) { return &known[pool & (POOLS - 1)]; }

/* It may be no pool yet, but any memory that is there: no sanitizer has to look. */
#define ANY_MEMORY __attribute__((no_sanitize("address")))

ANY_MEMORY static inline size_t size_in(uintptr_t pool) {
    uint32_t index = *(const uint32_t *)((pool << POOL_BITS) + SIZE_INDEX);
    return index < LARGEST / SMALLEST ? (index + 1) * SMALLEST : 0;
}

/* Whether a block of so many bytes lies in a pool; if so, that is known from now on. */
__attribute__((noinline)) ANY_MEMORY static int learn(uintptr_t address, size_t size) {
    int error = errno, found = 0;
    uintptr_t pool = address >> POOL_BITS;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char there;
    if (mincore((void *)((pool << POOL_BITS) & ~(page - 1)), 1, &there) == 0) {
        size_t block = size_in(pool), from = address - (pool << POOL_BITS);
        found = block == ((size + SMALLEST - 1) & ~(size_t)(SMALLEST - 1)) &&
                from >= POOL_HEAD && (from - POOL_HEAD) % block == 0;
    }
    if (found) {
        *place_of(pool) = pool;
    }
    errno = error;
    return found;
}

/* What a small object weighs; 0 where that is not known. */
ANY_MEMORY static inline size_t weight(const void *object) {
    uintptr_t pool = (uintptr_t)object >> POOL_BITS;
    return *place_of(pool) == pool ? size_in(pool) : 0;
}

static inline int counts(void) { return me.now.task != NULL && me.now.task->by_objects; }

static inline void object_came(const void *object, size_t size) {
    me.objects += (int64_t)size;
    small_came(object, size);
}

static inline void object_goes(const void *object, size_t size) {
    me.objects -= (int64_t)size;
    if (unlikely(sampled(object, size))) {
        sampled_goes((uintptr_t)object, size, 1);
    }
    else {
        count_small(-(int64_t)size);
    }
}

ANY_MEMORY static inline void came(const void *object, size_t size) {
    uintptr_t pool = (uintptr_t)object >> POOL_BITS;
    if (object != NULL && size - 1 < LARGEST &&
        (*place_of(pool) == pool || learn((uintptr_t)object, size))) {
        object_came(object, size_in(pool));
    }
}

static void *object_malloc(void *ctx, size_t size) {
    void *object = next.malloc(ctx, size);
    if (counts()) {
        came(object, size);
    }
    return object;
}

static void *object_calloc(void *ctx, size_t count, size_t size) {
    void *object = next.calloc(ctx, count, size);
    if (counts() && count != 0 && size <= LARGEST / count) {
        came(object, count * size);
    }
    return object;
}

static void object_free(void *ctx, void *object) {
    if (object != NULL && counts()) {
        object_goes(object, weight(object));
    }
    next.free(ctx, object);
}

static void *object_realloc(void *ctx, void *old, size_t size) {
    if (!counts()) {
        return next.realloc(ctx, old, size);
    }
    size_t before = old != NULL ? weight(old) : 0;
    void *object = next.realloc(ctx, old, size);
    if (object == NULL || object == old) { /* failed, or still in its place */
        return object;
    }
    if (old == NULL || before != 0) {
        me.objects -= (int64_t)before;
        small_moves(old, before);
        came(object, size);
    }
    else { /* from where we do not know, maybe malloc, to the same */
        object_came(object, weight(object));
    }
    return object;
}

/* ---- in and out ------------------------------------------------------------------ */

static const PyMemAllocatorDomain DOMAINS[] = {PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ};
enum { N_DOMAINS = 2 };

static int same(PyMemAllocatorEx a, PyMemAllocatorEx b) {
    return a.ctx == b.ctx && a.malloc == b.malloc && a.calloc == b.calloc &&
           a.realloc == b.realloc && a.free == b.free;
}

/* With the same ctx as the next one's: whoever reads half of each harms nothing. */
static PyMemAllocatorEx ours(void) {
    return (PyMemAllocatorEx){next.ctx, object_malloc, object_calloc, object_realloc,
                              object_free};
}

static PyMemAllocatorEx now_in(PyMemAllocatorDomain domain) {
    PyMemAllocatorEx now;
    PyMem_GetAllocator(domain, &now);
    return now;
}

/* Whether pools are as they were when this was written: blocks of every size. */
static int layout_holds(void) {
    enum { EACH = 3 };
    int holds = 1;
    for (size_t size = 1; size <= LARGEST; size += 15) {
        void *blocks[EACH];
        for (int i = 0; i < EACH; i++) {
            blocks[i] = next.malloc(next.ctx, size);
            holds = holds && blocks[i] != NULL && learn((uintptr_t)blocks[i], size);
        }
        for (int i = 0; i < EACH; i++) {
            next.free(next.ctx, blocks[i]);
        }
    }
    return holds;
}

/* Returns what `usable` is from now on.  0: somebody else counts now; to be tried again. */
static int test(void) {
    PyMemAllocatorEx now = now_in(PYMEM_DOMAIN_OBJ);
    if (!same(now, now_in(PYMEM_DOMAIN_MEM))) {
        return 0;
    }
#ifdef Py_GIL_DISABLED
    return -1;
#endif
    if (now.malloc == now_in(PYMEM_DOMAIN_RAW).malloc) { /* each is malloc's */
        return -1;
    }
    if (known == NULL) {
        void *table = mmap(NULL, POOLS * sizeof *known, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        known = table != MAP_FAILED ? table : NULL;
    }
    next = now;
    return known != NULL && layout_holds() ? 1 : -1;
}

/* Count objects for one more task.  Returns whether they are. */
HIDDEN int objects_on(void) {
    if (tasks > 0) {
        tasks++;
        return 1;
    }
    usable = usable != 0 ? usable : test();
    if (usable <= 0) {
        return 0;
    }
    PyMemAllocatorEx own = ours();
    for (int i = 0; i < N_DOMAINS; i++) { /* whoever is there must be known */
        PyMemAllocatorEx now = now_in(DOMAINS[i]);
        if (!same(now, next) && !same(now, own)) {
            return 0;
        }
    }
    for (int i = 0; i < N_DOMAINS; i++) {
        PyMem_SetAllocator(DOMAINS[i], &own);
    }
    tasks = 1;
    return 1;
}

/* One task less does.  `all`: none does any more. */
HIDDEN void objects_off(int all) {
    if (tasks == 0) {
        return;
    }
    tasks = all ? 0 : tasks - 1;
    for (int i = 0; tasks == 0 && i < N_DOMAINS; i++) {
        if (same(now_in(DOMAINS[i]), ours())) {
            PyMem_SetAllocator(DOMAINS[i], &next);
        }
    }
}

HIDDEN int objects_are_on(void) { return tasks > 0; }

/* A forked child's threads have no task: what is in passes everything on. */
HIDDEN void objects_in_child(void) { tasks = 0; }

/* An arena goes: what will be there is no pool, as far as we know. */
HIDDEN void objects_arena_goes(const void *arena, size_t size) {
    if (known != NULL) {
        uintptr_t pool = (uintptr_t)arena >> POOL_BITS;
        uintptr_t last = ((uintptr_t)arena + size - 1) >> POOL_BITS;
        for (; pool <= last; pool++) {
            if (*place_of(pool) == pool) {
                *place_of(pool) = 0;
            }
        }
    }
}

/* Arenas may have gone unseen. */
HIDDEN void objects_forget(void) {
    if (known != NULL) {
        memset(known, 0, POOLS * sizeof *known);
    }
}
