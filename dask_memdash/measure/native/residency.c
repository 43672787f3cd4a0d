/* Large blocks count what is resident of them, not what was asked for.
 *
 * A block of at least RESIDENT bytes counts nothing when it comes (its pages are mostly
 * untouched) and is looked at by mincore(): when its task's peak may be at hand (before
 * a large block goes, at the task's end) and, so that a reader in another process sees
 * it grow, every few milliseconds by a thread of ours.  Such a block is "open" until it
 * is found to be resident from end to end; from then on it counts in full, as nobody but
 * an allocator gives pages of a block back.
 *
 * Time: what is resident from the start on is not looked at again, so that filling a
 * block costs one look per page over its life.  Looks at what is never touched are
 * limited to a part of the task's own time; what was left out for that is its error.
 *
 * mincore() says of a page that was only read, and shows the kernel's page of zeros,
 * that it is resident: such a block counts although it takes no memory.
 *
 * All with table_lock held.
 */
#include "native.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* Looks may take this part of the time that the task has run, beside the first ones. */
enum { TASK_SHARE = 16, FREE_NS = 1000000 };

/* The thread looks so often, and its looks may take this part of its time. */
enum { INTERVAL_NS = 10000000, THREAD_SHARE = 50, ROUND_NS = 500000 };

enum { PAGES = 8192 };

static unsigned char vector[PAGES];
static block_t *open_blocks;
static pthread_cond_t opened = PTHREAD_COND_INITIALIZER;
static int thread_runs, thread_waits;

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static size_t page_size(void) {
    static size_t size;
    if (size == 0) {
        size = (size_t)sysconf(_SC_PAGESIZE);
    }
    return size;
}

/* How many of a block's bytes are resident; moves `prefix` (bytes) on. */
static size_t resident(uintptr_t address, size_t size, size_t *prefix) {
    int error = errno;
    size_t page = page_size();
    uintptr_t at = (address + *prefix) & ~(page - 1);
    uintptr_t end = (address + size + page - 1) & ~(page - 1);
    uintptr_t known = address + *prefix; /* resident up to here */
    size_t beyond = 0;                   /* pages that are, further on */
    int unbroken = 1;
    while (at < end) {
        size_t pages = (end - at) / page < PAGES ? (end - at) / page : PAGES;
        if (mincore((void *)at, pages * page, vector) != 0) {
            break; /* part of it is no memory: not a block, then */
        }
        for (size_t i = 0; i < pages; i++) {
            if (unbroken && (vector[i] & 1)) {
                known = at + (i + 1) * page;
            }
            else {
                unbroken = 0;
                beyond += vector[i] & 1;
            }
        }
        at += pages * page;
    }
    errno = error;
    *prefix = known - address < size ? known - address : size;
    size_t bytes = *prefix + beyond * page;
    return bytes < size ? bytes : size;
}

HIDDEN size_t resident_bytes(uintptr_t address, size_t size) {
    size_t prefix = 0;
    return resident(address, size, &prefix);
}

HIDDEN void block_opens(block_t *block) {
    block->next_open = open_blocks;
    block->to_this_open = &open_blocks;
    if (open_blocks != NULL) {
        open_blocks->to_this_open = &block->next_open;
    }
    open_blocks = block;
    if (thread_waits) {
        pthread_cond_signal(&opened);
    }
}

HIDDEN void block_closes(block_t *block) {
    if (block->to_this_open != NULL) {
        *block->to_this_open = block->next_open;
        if (block->next_open != NULL) {
            block->next_open->to_this_open = block->to_this_open;
        }
        block->to_this_open = NULL;
    }
}

static void count_resident(block_t *block) {
    size_t bytes = resident(block->address, block->size, &block->prefix);
    int64_t more = (int64_t)bytes - (int64_t)block->counted;
    block->counted = bytes;
    block->owner->untouched -= more;
    if (more != 0) {
        add_to_task(block->owner, more);
    }
    if (bytes == block->size) {
        block_closes(block);
    }
}

/* Whether the task has time left for another look.  If not, its peak may be higher by
 * all that might have been touched meanwhile, which is then its error. */
static int affordable(task_t *task, int64_t now) {
    if (task->begun == 0) {
        task->begun = now;
    }
    if (task->looked <= FREE_NS + (now - task->begun) / TASK_SHARE) {
        return 1;
    }
    counters_t *counters = task->counters;
    int64_t doubt = counters->net + task->untouched - counters->peak;
    if (doubt > counters->error) {
        __atomic_store_n(&counters->error, doubt, __ATOMIC_RELAXED);
    }
    return 0;
}

HIDDEN void look_at_block(block_t *block) {
    task_t *task = block->owner;
    int64_t before = now_ns();
    if (affordable(task, before)) {
        count_resident(block);
        task->looked += now_ns() - before;
    }
}

/* Look at all of a task's blocks that are open; `last`: whatever the time it takes. */
HIDDEN void look_at_task(task_t *task, int last) {
    int64_t before = now_ns();
    if (last || affordable(task, before)) {
        for (block_t *block = task->blocks; block != NULL; block = block->next_of_task) {
            if (block->counted < block->size) {
                count_resident(block);
            }
        }
        task->looked += now_ns() - before;
    }
}

/* ---- the thread ----------------------------------------------------------------- */

/* One round: look at open blocks, those looked at longest ago first. */
static int64_t look_round(void) {
    int64_t begun = now_ns(), taken = 0;
    block_t *last = NULL;
    while (open_blocks != NULL && open_blocks != last && taken < ROUND_NS) {
        block_t *block = open_blocks, *end = block;
        count_resident(block);
        if (block->to_this_open != NULL) { /* still open: to the end of the list */
            while (end->next_open != NULL) {
                end = end->next_open;
            }
            if (end != block) {
                block_closes(block);
                block->next_open = NULL;
                block->to_this_open = &end->next_open;
                end->next_open = block;
            }
            last = last != NULL ? last : block;
        }
        taken = now_ns() - begun;
    }
    return taken;
}

static void *look_on(void *unused) {
    pthread_mutex_lock(&table_lock);
    for (;;) {
        while (open_blocks == NULL) {
            thread_waits = 1;
            pthread_cond_wait(&opened, &table_lock);
            thread_waits = 0;
        }
        int64_t taken = look_round();
        pthread_mutex_unlock(&table_lock);
        int64_t pause = taken * THREAD_SHARE;
        pause = pause > INTERVAL_NS ? pause : INTERVAL_NS;
        struct timespec rest = {pause / 1000000000, pause % 1000000000};
        nanosleep(&rest, NULL);
        pthread_mutex_lock(&table_lock);
    }
    return unused;
}

/* Start the thread, once in a process; it sleeps while no block is open. */
HIDDEN int residency_start(void) {
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    if (thread_runs) {
        return 1;
    }
    page_size();
    sigfillset(&all);
    if (pthread_attr_init(&attributes) != 0) {
        return 0;
    }
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 256 << 10);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the host's matter */
    thread_runs = real.pthread_create(&thread, &attributes, look_on, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return thread_runs;
}

HIDDEN void residency_in_child(void) {
    pthread_cond_init(&opened, NULL);
    open_blocks = NULL;
    thread_runs = thread_waits = 0;
}
