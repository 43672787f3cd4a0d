/* Tasks, and who owns which block.
 *
 * Blocks of at least OWNED bytes stand in a table, by address, as long as their task
 * runs.  Whoever frees one takes it off that task.  What is not in the table was there
 * before the task that runs now, and is taken off the task in the thread that frees it:
 * the nets of all tasks together then say by how much all of them made the process
 * grow, and a cache that drops one block for every new one does not look like a leak.
 * The peak is of what the task holds itself: there, others' blocks are not taken off.
 *
 * Locks: table_lock before a task's, and before that of frames/blocks.c.  No Python, and
 * nothing that allocates by the wrapped functions, runs under any.
 */
#include "native.h"

#include <string.h>
#include <sys/mman.h>

HIDDEN size_t owned_blocks;
HIDDEN unsigned forks;
HIDDEN pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;

static const int NONE_WATCHED;
HIDDEN const lines_t *lines;
HIDDEN const int *watched = &NONE_WATCHED;

/* ---- the table of owned blocks -------------------------------------------------- */

static block_t **buckets;
static size_t n_buckets; /* a power of two, or 0 */
static block_t *unused_blocks;
static task_t *unused_tasks;

/* Memory that is never given back, for blocks and tasks. */
HIDDEN void *for_good(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                        -1, 0);
    return memory != MAP_FAILED ? memory : NULL;
}

static size_t bucket_of(uintptr_t address, size_t n) {
    uint64_t mixed = (uint64_t)(address >> 4) * UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(mixed >> 32) & (n - 1);
}

static int more_buckets(void) {
    size_t n = n_buckets != 0 ? 2 * n_buckets : 1024;
    block_t **table = for_good(n * sizeof *table);
    if (table == NULL) {
        return n_buckets != 0;
    }
    for (size_t i = 0; i < n_buckets; i++) {
        for (block_t *block = buckets[i], *next; block != NULL; block = next) {
            block_t **place = &table[bucket_of(block->address, n)];
            next = block->next_in_bucket;
            block->next_in_bucket = *place;
            *place = block;
        }
    }
    if (n_buckets != 0) {
        munmap(buckets, n_buckets * sizeof *buckets);
    }
    buckets = table;
    n_buckets = n;
    return 1;
}

static block_t *new_block(void) {
    if (owned_blocks >= n_buckets && !more_buckets()) {
        return NULL;
    }
    if (unused_blocks == NULL) {
        enum { CHUNK = 1 << 16 };
        block_t *chunk = for_good(CHUNK);
        for (size_t i = 0; chunk != NULL && i < CHUNK / sizeof *chunk; i++) {
            chunk[i].next_in_bucket = unused_blocks;
            unused_blocks = &chunk[i];
        }
    }
    block_t *block = unused_blocks;
    if (block != NULL) {
        unused_blocks = block->next_in_bucket;
    }
    return block;
}

static block_t **find(uintptr_t address) {
    if (n_buckets == 0) {
        return NULL;
    }
    block_t **place = &buckets[bucket_of(address, n_buckets)];
    while (*place != NULL && (*place)->address != address) {
        place = &(*place)->next_in_bucket;
    }
    return *place != NULL ? place : NULL;
}

/* Take a block out of the table, where `place` points at it. */
static void drop(block_t **place) {
    block_t *block = *place;
    *place = block->next_in_bucket;
    *block->to_this_of_task = block->next_of_task;
    if (block->next_of_task != NULL) {
        block->next_of_task->to_this_of_task = block->to_this_of_task;
    }
    block_closes(block);
    reused_let_go(block);
    block->owner->untouched -= (int64_t)(block->size - block->counted);
    block->next_in_bucket = unused_blocks;
    unused_blocks = block;
    __atomic_store_n(&owned_blocks, owned_blocks - 1, __ATOMIC_RELAXED);
}

/* What of a block's count was there before its task. */
static int64_t theirs_of(const block_t *block) {
    return (int64_t)(block->theirs < block->counted ? block->theirs : block->counted);
}

/* What a task has held since may be the most that it will have held. */
HIDDEN void look_before_peak(task_t *task) {
    if (task->untouched != 0 && task->most + task->untouched > task->counters->peak) {
        look_at_task(task, 0);
    }
    else {
        settle(task, 0);
    }
}

/* A large block has come.  `prefix`: how many of its bytes are known to be resident;
 * `kept`: how many were written by whoever had it before, or by the allocator; `theirs`:
 * how many were there before the task. */
HIDDEN void owned_came(void *address, size_t size, ref_t owner, size_t prefix, size_t kept,
                       size_t theirs) {
    size_t reused = 0;
    if (size >= RESIDENT && kept < size) {
        reused = reused_pages((uintptr_t)address, kept, size);
    }
    pthread_mutex_lock(&table_lock);
    task_t *task = owner.task;
    if (task != NULL && task->generation == owner.generation) {
        /* Whoever freed the block that was here before did so unseen. */
        block_t **stale = find((uintptr_t)address);
        if (stale != NULL) {
            take_off_task((*stale)->owner, (int64_t)(*stale)->counted,
                          theirs_of(*stale));
            drop(stale);
        }
        block_t *block = new_block();
        size_t counted = prefix < size ? prefix : size;
        if (counted < size && task->most > held_by(task) + TRIFLE) {
            look_before_peak(task); /* what went since has had none of it beside */
        }
        if (block == NULL) { /* out of memory: as if it were small */
            add_to_task(task, (int64_t)size, 0);
        }
        else {
            block_t **bucket = &buckets[bucket_of((uintptr_t)address, n_buckets)];
            *block = (block_t){.address = (uintptr_t)address,
                               .size = size,
                               .counted = counted,
                               .prefix = counted,
                               .theirs = theirs < counted ? theirs : counted,
                               .peak_before = task->counters->peak,
                               .forked = times_forked(),
                               .owner = task,
                               .next_in_bucket = *bucket,
                               .next_of_task = task->blocks,
                               .to_this_of_task = &task->blocks};
            *bucket = block;
            if (task->blocks != NULL) {
                task->blocks->to_this_of_task = &block->next_of_task;
            }
            task->blocks = block;
            if (reused != 0) {
                reused_came(block, kept, reused);
            }
            task->untouched += (int64_t)(size - counted);
            __atomic_store_n(&owned_blocks, owned_blocks + 1, __ATOMIC_RELAXED);
            add_to_task(task, (int64_t)counted, -(int64_t)block->theirs);
            if (counted < size) {
                block_opens(block);
            }
        }
        if (size >= LARGE && lines != NULL && task->place != NULL) {
            lines->came(task->place, address, size);
        }
    }
    pthread_mutex_unlock(&table_lock);
}

/* A block that nobody owns: it was there before the task that runs in this thread. */
static size_t counted_of_stranger(void *address, size_t size) {
    task_t *mine = me.now.task;
    if (mine->generation == me.now.generation) {
        look_before_peak(mine);
    }
    return size < RESIDENT ? size : resident_bytes((uintptr_t)address, size);
}

/* A large block goes.  Returns whether a task owned it. */
HIDDEN int owned_gone(void *address, size_t size) {
    pthread_mutex_lock(&table_lock);
    if (size >= LARGE && lines != NULL) {
        lines->gone(address);
    }
    block_t **place = find((uintptr_t)address);
    int owned = place != NULL;
    if (owned) {
        block_t *block = *place;
        task_t *task = block->owner;
        if (block->counted < block->size) {
            look_at_block(block);
        }
        look_before_peak(task);
        reused_goes(block, SIZE_MAX);
        take_off_task(task, (int64_t)block->counted, theirs_of(block));
        drop(place);
    }
    else if (me.now.task != NULL) {
        others_go((int64_t)counted_of_stranger(address, size));
    }
    pthread_mutex_unlock(&table_lock);
    return owned;
}

/* A large block is about to become another size, and to move.  Its entry goes, as its
 * address may be somebody else's at once; what it counted stays until owned_moved().  A
 * block that grows is as resident afterwards as before: there is no need to look, unless
 * it `copies`, so that what is in it will be there twice. */
HIDDEN void owned_moves(moved_t *moved, void *address, size_t before, size_t after,
                        int copies) {
    *moved = (moved_t){.owner = me.now};
    pthread_mutex_lock(&table_lock);
    if (before >= LARGE && lines != NULL) {
        lines->gone(address);
    }
    block_t **place = find((uintptr_t)address);
    if (place != NULL) {
        block_t *block = *place;
        task_t *task = block->owner;
        if ((after < before || copies) && block->counted < block->size) {
            look_at_block(block);
        }
        if (after < before) {
            look_before_peak(task);
        }
        size_t unwritten = copies ? 0 : reused_unwritten(block) + block->doubt;
        reused_goes(block, after < before ? before - after : 0);
        *moved = (moved_t){{task, task->generation}, block->counted, block->prefix,
                           block->theirs, before, address, unwritten};
        drop(place);
    }
    else if (me.now.task != NULL) {
        moved->counted = moved->prefix = counted_of_stranger(address, before);
        moved->theirs = moved->counted;
        moved->before = before;
    }
    pthread_mutex_unlock(&table_lock);
}

/* A block that grew where it was counts from now on with what nobody had written of it. */
static void doubt_block(void *address, size_t bytes) {
    pthread_mutex_lock(&table_lock);
    block_t **place = find((uintptr_t)address);
    if (place != NULL) {
        (*place)->doubt += bytes < (*place)->counted ? bytes : (*place)->counted;
    }
    pthread_mutex_unlock(&table_lock);
}

/* It has moved, to where it was or elsewhere; NULL: it is gone.  `copied`: what is in it
 * was copied, so that for a moment both were there. */
HIDDEN void owned_moved(const moved_t *moved, void *address, size_t size, int copied) {
    if (moved->owner.task == NULL) {
        return;
    }
    if (!copied) {
        add_if_it_runs(moved->owner, -(int64_t)moved->counted, (int64_t)moved->theirs);
    }
    if (address != NULL && size >= OWNED) {
        owned_came(address, size, moved->owner, size < RESIDENT ? size : moved->prefix,
                   moved->before, copied ? 0 : moved->theirs);
        if (unlikely(moved->unwritten != 0) && address == moved->from) {
            doubt_block(address, moved->unwritten);
        }
    }
    else if (address != NULL && me.now.task != NULL) {
        small_came(address, size);
    }
    if (copied) {
        add_if_it_runs(moved->owner, -(int64_t)moved->counted, (int64_t)moved->theirs);
    }
}

/* ---- begin and end -------------------------------------------------------------- */

/* A task that counts into `counters` from now on; no task if there is no memory. */
HIDDEN ref_t task_begin(counters_t *counters, void *place, int by_objects) {
    pthread_mutex_lock(&table_lock);
    if (unused_tasks == NULL) {
        enum { CHUNK = 1 << 14 };
        task_t *chunk = for_good(CHUNK);
        for (size_t i = 0; chunk != NULL && i < CHUNK / sizeof *chunk; i++) {
            chunk[i].next_free = unused_tasks;
            unused_tasks = &chunk[i];
        }
    }
    task_t *task = unused_tasks;
    ref_t begun = {task, 0};
    if (task != NULL) {
        unused_tasks = task->next_free;
        begun.generation = task->generation;
        task->untouched = task->filling = task->looked = task->begun = 0;
        task->doubt = task->doubt_of = task->most = task->at_most = task->said = 0;
        task->others = task->surmised = 0;
        task_lock(task);
        task->by_objects = by_objects;
        task->objects = task->most_objects = task->arenas = task->most_arenas = 0;
        task->counters = counters;
        sample_begins(&task->sample);
        task->place = lines != NULL ? place : NULL;
        if (task->place != NULL) {
            lines->forget(place);
        }
        __atomic_store_n(&counters->net, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&counters->peak, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&counters->filling, 0, __ATOMIC_RELAXED);
        task_unlock(task);
    }
    pthread_mutex_unlock(&table_lock);
    return begun;
}

/* End the current thread's task. */
HIDDEN ended_t task_end(ref_t ended) {
    task_t *task = ended.task;
    if (me.pending != 0) {
        count_step(me.pending);
    }
    pthread_mutex_lock(&table_lock);
    if (task->untouched > 0) {
        look_at_task(task, 1);
    }
    while (task->blocks != NULL) {
        reused_goes(task->blocks, SIZE_MAX);
        drop(find(task->blocks->address));
    }
    int64_t doubt = reused_doubt(task);
    task_lock(task);
    int64_t short_by = task->at_most - task->counters->peak;
    int64_t noise = sample_noise(&task->sample), others = task->others;
    short_by = short_by > noise ? short_by : noise;
    doubt = doubt > noise ? doubt : noise;
    if (doubt > task->counters->error) {
        __atomic_store_n(&task->counters->error, doubt, __ATOMIC_RELAXED);
    }
    task->generation++;
    task_unlock(task);
    task->next_free = unused_tasks;
    unused_tasks = task;
    pthread_mutex_unlock(&table_lock);
    return (ended_t){doubt, short_by, others};
}

/* A forked child has none of its parent's tasks and threads.  What they left may be half
 * done: it is let go of, not mended. */
HIDDEN void slots_in_child(void) {
    memset(&me, 0, sizeof me);
    forks++;
    pthread_mutex_init(&table_lock, NULL);
    buckets = NULL;
    n_buckets = 0;
    owned_blocks = 0;
    unused_blocks = NULL;
    unused_tasks = NULL;
}
