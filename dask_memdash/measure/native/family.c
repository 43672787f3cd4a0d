/* The wrappers of malloc and its relatives, and of mmap.
 *
 * Of files that are mapped it is only known how much: their pages show in the RSS, come and
 * go unseen, and are no task's.  Of memory that is mapped without a file it is known from
 * where: a place that does so again and again, or for more than any buffer takes, is an
 * allocator of its own that nobody counts.
 *
 * Each calls the real function and counts.  What a block weighs is what the C library
 * says it weighs, when it comes and when it goes, so that counts cannot drift.
 *
 * They run in any thread at any time: no Python, no allocation, no lock but those of
 * counters.c and slots.c.  errno is as the real function left it.
 */
#define _GNU_SOURCE
#include "native.h"

#include <sys/mman.h>

HIDDEN real_t real;

static inline void came(void *block) {
    if (block != NULL) {
        block_came(block, real.usable_size(block));
    }
}

HIDDEN void *hook_malloc(size_t size) {
    if (likely(me.now.task == NULL)) {
        return real.malloc(size);
    }
    void *block = real.malloc(size);
    came(block);
    return block;
}

HIDDEN void *hook_calloc(size_t count, size_t size) {
    if (likely(me.now.task == NULL)) {
        return real.calloc(count, size);
    }
    void *block = real.calloc(count, size);
    if (block != NULL) {
        zeroed_block_came(block, real.usable_size(block));
    }
    return block;
}

HIDDEN void *hook_memalign(size_t alignment, size_t size) {
    if (likely(me.now.task == NULL)) {
        return real.memalign(alignment, size);
    }
    void *block = real.memalign(alignment, size);
    came(block);
    return block;
}

HIDDEN void *hook_aligned_alloc(size_t alignment, size_t size) {
    if (likely(me.now.task == NULL)) {
        return real.aligned_alloc(alignment, size);
    }
    void *block = real.aligned_alloc(alignment, size);
    came(block);
    return block;
}

HIDDEN int hook_posix_memalign(void **block, size_t alignment, size_t size) {
    int error = real.posix_memalign(block, alignment, size);
    if (error == 0 && me.now.task != NULL) {
        came(*block);
    }
    return error;
}

HIDDEN void hook_free(void *block) {
    if (unlikely(anybody_counts()) && block != NULL) {
        block_goes(block, real.usable_size(block));
    }
    real.free(block);
}

/* A block that grows stays with the task that made it.  The C library moves large ones
 * without a copy. */
HIDDEN void *hook_realloc(void *old, size_t size) {
    if (old == NULL || !anybody_counts()) {
        void *block = real.realloc(old, size);
        if (old == NULL && me.now.task != NULL) {
            came(block);
        }
        return block;
    }
    size_t before = real.usable_size(old);
    moved_t moved = {.owner = me.now};
    if (before >= OWNED) {
        owned_moves(&moved, old, before, size, 0);
    }
    else if (me.now.task != NULL) {
        moved.prefix = moved.before = before;
        small_moves(old, before);
    }
    void *block = real.realloc(old, size);
    void *kept = block != NULL ? block : size != 0 ? old : NULL; /* else it failed */
    owned_moved(&moved, kept, kept != NULL ? real.usable_size(kept) : 0, 0);
    return block;
}

HIDDEN uint64_t files_mapped;

/* ---- memory that libraries map for themselves ------------------------------------ */

enum { PLACES = 256, OFTEN = 8 };
static const uint64_t MUCH = 16 << 20, VERY_MUCH = 256 << 20;

static struct {
    uintptr_t place; /* in code: 0 where none is noted yet */
    uint64_t bytes, times;
} places[PLACES];

HIDDEN uintptr_t counted_from, counted_to; /* code whose allocator is counted */

/* Never moved, never taken out: read and written by any thread at any time. */
static void note_place(uintptr_t place, size_t size) {
    for (size_t i = 0, at = place >> 4; i < 8; i++, at++) {
        uintptr_t *noted = &places[at % PLACES].place, none = 0;
        if (__atomic_load_n(noted, __ATOMIC_RELAXED) == place ||
            __atomic_compare_exchange_n(noted, &none, place, 0, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED) ||
            none == place) {
            __atomic_add_fetch(&places[at % PLACES].bytes, size, __ATOMIC_RELAXED);
            __atomic_add_fetch(&places[at % PLACES].times, 1, __ATOMIC_RELAXED);
            return;
        }
    }
}

static void note_map(size_t size, int flags, int fd, uintptr_t place) {
    if (!(flags & MAP_ANONYMOUS)) {
        if (fd >= 0) {
            __atomic_add_fetch(&files_mapped, size, __ATOMIC_RELAXED);
        }
    }
    else if ((flags & MAP_PRIVATE) && !me.in_arena &&
             !(place >= counted_from && place < counted_to)) {
        note_place(place, size);
    }
}

/* Bytes that allocators of their own have mapped so far; 0 if there is none. */
HIDDEN uint64_t mapped_by_allocators(void) {
    uint64_t bytes = 0;
    for (int i = 0; i < PLACES; i++) {
        uintptr_t place = __atomic_load_n(&places[i].place, __ATOMIC_RELAXED);
        uint64_t all = __atomic_load_n(&places[i].bytes, __ATOMIC_RELAXED);
        uint64_t times = __atomic_load_n(&places[i].times, __ATOMIC_RELAXED);
        if (!(place >= counted_from && place < counted_to) &&
            (all >= VERY_MUCH || (times >= OFTEN && all >= MUCH))) {
            bytes += all;
        }
    }
    return bytes;
}

HIDDEN void *hook_mmap(void *at, size_t size, int protection, int flags, int fd,
                       off_t from) {
    note_map(size, flags, fd, (uintptr_t)__builtin_return_address(0));
    return real.mmap(at, size, protection, flags, fd, from);
}

HIDDEN void *hook_mmap64(void *at, size_t size, int protection, int flags, int fd,
                         off_t from) {
    note_map(size, flags, fd, (uintptr_t)__builtin_return_address(0));
    return real.mmap64(at, size, protection, flags, fd, from);
}
