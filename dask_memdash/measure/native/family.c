/* The wrappers of malloc and its relatives, and of mmap.
 *
 * Of files that are mapped it is only known how much: their pages show in the RSS, come and
 * go unseen, and are no task's.
 *
 * Each calls the real function and counts.  What a block weighs is what the C library
 * says it weighs, when it comes and when it goes, so that counts cannot drift.
 *
 * They run in any thread at any time: no Python, no allocation, no lock but those of
 * slots.c.  errno is as the real function left it.
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
    came(block);
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
        moved.prefix = before;
        count_small(-(int64_t)before);
    }
    void *block = real.realloc(old, size);
    void *kept = block != NULL ? block : size != 0 ? old : NULL; /* else it failed */
    owned_moved(&moved, kept, kept != NULL ? real.usable_size(kept) : 0, 0);
    return block;
}

HIDDEN uint64_t files_mapped;

HIDDEN void *hook_mmap(void *at, size_t size, int protection, int flags, int fd,
                       off_t from) {
    if (fd >= 0 && !(flags & MAP_ANONYMOUS)) {
        __atomic_add_fetch(&files_mapped, size, __ATOMIC_RELAXED);
    }
    return real.mmap(at, size, protection, flags, fd, from);
}

HIDDEN void *hook_mmap64(void *at, size_t size, int protection, int flags, int fd,
                         off_t from) {
    return hook_mmap(at, size, protection, flags, fd, from);
}
