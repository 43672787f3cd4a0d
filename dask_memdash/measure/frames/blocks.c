/* Large blocks of running tasks, and the largest of each task.
 *
 * A block is known from when it comes to when it goes, whichever thread frees it, so that
 * what stands in the recorder is a block that is there: when the largest goes, the next
 * takes its place.  Of one task the MOST_OF_ONE largest are known; once those have gone,
 * nothing is said rather than something that may be wrong.
 *
 * A block is known on after its task has ended, as it may be its output, until the slot
 * is another task's.
 *
 * Any thread may come in here, with the GIL or without it.  One lock guards it all; under
 * it nothing is called, and what is written is a few hundred bytes.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "inside.h"

#include <sched.h>
#include <string.h>

enum { MOST = 256, MOST_OF_ONE = 8 };

typedef struct {
    void *place; /* of its task */
    void *address;
    size_t size;
    line_t line;
} block_t;

/* What another process reads: LINE_SIZE bytes; see flight/format.py. */
typedef struct {
    uint64_t sequence; /* odd while the rest is being written */
    int64_t size;      /* 0: there is none */
    uint32_t number, flags;
    uint8_t file, function, called, unused[5];
    char text[TEXT_MOST];
} record_t;

_Static_assert(sizeof(record_t) == LINE_SIZE, "the format of a slot");

static block_t blocks[MOST];
static int n_blocks; /* read without the lock, as `watched` */
static int locked;

static void lock(void) {
    for (int tries = 0; __atomic_exchange_n(&locked, 1, __ATOMIC_ACQUIRE); tries++) {
        if (tries > 100) { /* whoever has it was sent off the processor */
            sched_yield();
        }
    }
}

static void unlock(void) { __atomic_store_n(&locked, 0, __ATOMIC_RELEASE); }

/* ---- with the lock held ---------------------------------------------------------- */

static void drop(int i) {
    int last = n_blocks - 1;
    if (i != last) {
        blocks[i] = blocks[last];
    }
    __atomic_store_n(&n_blocks, last, __ATOMIC_RELAXED);
}

/* Write the largest block of a task where it is read. */
static void publish(void *place) {
    const block_t *largest = NULL;
    for (int i = 0; i < n_blocks; i++) {
        if (blocks[i].place == place &&
            (largest == NULL || blocks[i].size > largest->size)) {
            largest = &blocks[i];
        }
    }
    record_t *record = place;
    uint64_t sequence = __atomic_load_n(&record->sequence, __ATOMIC_RELAXED) & ~(uint64_t)1;
    __atomic_store_n(&record->sequence, sequence | 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    record->size = largest != NULL ? (int64_t)largest->size : 0;
    if (largest != NULL) {
        const line_t *line = &largest->line;
        record->number = line->number;
        record->flags = line->flags;
        record->file = line->file;
        record->function = line->function;
        record->called = line->called;
        memcpy(record->text, line->text,
               (size_t)line->file + line->function + line->called);
    }
    __atomic_store_n(&record->sequence, sequence + 2, __ATOMIC_RELEASE);
}

/* Where a new block of a task may stand; -1 where it is smaller than all that may. */
static int room_for(const void *place, size_t size) {
    int smallest = -1, of_one = 0;
    for (int i = 0; i < n_blocks; i++) {
        if (blocks[i].place == place) {
            of_one++;
            if (smallest < 0 || blocks[i].size < blocks[smallest].size) {
                smallest = i;
            }
        }
    }
    if (of_one < MOST_OF_ONE && n_blocks < MOST) {
        int new = n_blocks;
        __atomic_store_n(&n_blocks, n_blocks + 1, __ATOMIC_RELAXED);
        return new;
    }
    return smallest >= 0 && blocks[smallest].size < size ? smallest : -1;
}

static void drop_address(const void *address) {
    for (int i = 0; i < n_blocks; i++) {
        if (blocks[i].address == address) {
            void *place = blocks[i].place;
            drop(i);
            publish(place);
            return;
        }
    }
}

/* ---- for the tallies --------------------------------------------------------------- */

static void block_came(void *place, void *address, size_t size) {
    line_t line;
    look_here(&line);
    lock();
    drop_address(address); /* whoever freed what was here did so unseen */
    int i = room_for(place, size);
    if (i >= 0) {
        blocks[i].place = place;
        blocks[i].address = address;
        blocks[i].size = size;
        blocks[i].line = line;
        publish(place);
    }
    unlock();
}

static void block_gone(void *address) {
    lock();
    drop_address(address);
    unlock();
}

static void forget_task(void *place) {
    lock();
    for (int i = n_blocks - 1; i >= 0; i--) {
        if (blocks[i].place == place) {
            drop(i);
        }
    }
    publish(place);
    unlock();
}

HIDDEN void forget_all(void) {
    lock();
    __atomic_store_n(&n_blocks, 0, __ATOMIC_RELAXED);
    unlock();
}

HIDDEN const lines_t LINES = {block_came, block_gone, forget_task, &n_blocks};

/* A forked child has no business in its parent's recorder. */
HIDDEN void blocks_in_child(void) {
    n_blocks = 0;
    locked = 0;
}
