/* Whose a small block is, known of a sample.
 *
 * Small blocks are counted in the thread that allocates or frees them: whose one is that
 * a task frees, nobody noted.  If it was there before the task, it is no part of what the
 * task holds, and must lower its net only, not its peak.  So of what a task allocates a
 * sample is noted.  What would be in the sample, goes and was not noted is another's, and
 * stands for as much as was left out.
 *
 * The sample is taken by address: a block is in it with a probability of its size over
 * SAMPLED, so that each stands for SAMPLED bytes, and larger ones for themselves.  What
 * frees a block so knows whether it would have been noted.  (Size-proportional sampling
 * with the estimator of Horvitz and Thompson, 1952.)  What others had is so known to
 * SAMPLED times the square root of how many were found; twice that is the peak's error.
 *
 * A task's notes are a table of its own, of at most MOST places.  When it is full, each
 * block stands for twice as much from then on, and what is out of the sample is taken out
 * of the table.  Without memory for that, nothing more is said of the task's small blocks.
 *
 * All under the task's lock.
 */
#include "native.h"

#include <sys/mman.h>

enum { FEWEST = 1 << 8, MOST = 1 << 16, NOISE_STEP = 1 << 10 };

/* Whether a block is in a task's sample, too, which may be thinner. */
static int in_its_sample(uintptr_t address, size_t size, const sample_t *sample) {
    return (uint64_t)dice(address) << sample->thinned < (uint64_t)size << SAMPLED_SHIFT;
}

/* Where the note of a block is, or would be, in a table that is never full. */
static sampled_t *place_of(const sample_t *sample, uintptr_t address, uint32_t of) {
    size_t last = sample->places - 1;
    /* other bits than those that put it into the sample */
    size_t at = (address >> 4) * UINT64_C(0xD6E8FEB86659FD93) >> 40 & last;
    while (sample->notes[at].of == of && sample->notes[at].address != address) {
        at = (at + 1) & last;
    }
    return &sample->notes[at];
}

static sampled_t *noted(const task_t *task, uintptr_t address) {
    const sample_t *sample = &task->sample;
    uint32_t of = task->generation + 1;
    sampled_t *note = sample->places != 0 ? place_of(sample, address, of) : NULL;
    return note != NULL && note->of == of ? note : NULL;
}

static void put(sample_t *sample, sampled_t note) {
    sampled_t *place = place_of(sample, note.address, note.of);
    sample->noted += place->of != note.of;
    *place = note;
}

/* Those after it may have to move up to be found. */
static void take_out(sample_t *sample, sampled_t *note) {
    uint32_t of = note->of;
    size_t last = sample->places - 1, at = (size_t)(note - sample->notes);
    note->of = 0;
    sample->noted--;
    for (at = (at + 1) & last; sample->notes[at].of == of; at = (at + 1) & last) {
        sampled_t moved = sample->notes[at];
        sample->notes[at].of = 0;
        *place_of(sample, moved.address, of) = moved;
    }
}

/* Make room for one more note.  Returns whether there is. */
static int room(sample_t *sample, uint32_t of) {
    if (2 * sample->noted < sample->places) {
        return 1;
    }
    sampled_t *former = sample->notes;
    size_t n = sample->places, places = n == 0 ? FEWEST : n < MOST ? 2 * n : MOST;
    sampled_t *table = for_good(places * sizeof *table);
    if (table == NULL) {
        return 0;
    }
    sample->thinned += n == MOST;
    sample->notes = table;
    sample->places = places;
    sample->noted = 0;
    for (size_t i = 0; i < n; i++) {
        if (former[i].of == of && in_its_sample(former[i].address, former[i].size, sample)) {
            put(sample, former[i]);
        }
    }
    if (n != 0) {
        munmap(former, n * sizeof *former);
    }
    return 1;
}

/* A block of others' has gone, and stands for more of them. */
static void others_went(task_t *task, size_t size, int object) {
    sample_t *sample = &task->sample;
    size_t least = SAMPLED << sample->thinned, bytes = size > least ? size : least;
    sample->others += (int64_t)bytes;
    sample->objects += object ? (int64_t)bytes : 0;
    sample->variance += (uint64_t)bytes * (bytes - size);
    while (sample->noise * sample->noise < 4 * sample->variance) {
        sample->noise += NOISE_STEP;
    }
    if (sample->others < TRIFLE) {
        return;
    }
    int64_t known = sample->others - sample->others_told;
    int64_t before = known < task->surmised ? known : task->surmised;
    task->surmised -= before;
    task->others += known - before;
    task->objects += sample->objects - sample->objects_told;
    sample->others_told = sample->others;
    sample->objects_told = sample->objects;
    if ((int64_t)sample->noise > task->counters->error) {
        __atomic_store_n(&task->counters->error, (int64_t)sample->noise, __ATOMIC_RELAXED);
    }
}

/* Count what comes or goes with what the thread has not told yet, under one lock. */
static void count_now(task_t *task, int64_t bytes) {
    bytes += me.pending;
    me.pending = 0;
    add_to_locked(task, bytes);
}

/* Lock the current thread's task and return it, if it runs.  Else the bytes wait to be told
 * as any: whoever probes what is counted (module.c) has no task that runs. */
static task_t *lock_or_count(int64_t bytes) {
    task_t *task = me.now.task;
    if (task == NULL) {
        return NULL;
    }
    task_lock(task);
    if (likely(task->generation == me.now.generation)) {
        return task;
    }
    task_unlock(task);
    count_small(bytes);
    return NULL;
}

static int asks(const task_t *task, uintptr_t address, size_t size) {
    return !task->sample.unnoted && in_its_sample(address, size, &task->sample);
}

/* A block of the sample has come, in a task's thread. */
HIDDEN void sampled_came(uintptr_t address, size_t size) {
    task_t *task = lock_or_count((int64_t)size);
    if (task == NULL) {
        return;
    }
    sample_t *sample = &task->sample;
    uint32_t of = task->generation + 1;
    count_now(task, (int64_t)size);
    if (asks(task, address, size)) {
        if (!room(sample, of)) {
            sample->unnoted = 1;
        }
        else if (in_its_sample(address, size, sample)) { /* which may have got thinner */
            put(sample, (sampled_t){address, (uint32_t)size, of});
        }
    }
    task_unlock(task);
}

/* One is about to be made larger or smaller.  If it was noted, it will be again.  Else it
 * may be another's, and what comes in its place may or may not be in the sample: to take
 * it for this task's errs by no more than the block. */
HIDDEN void sampled_moves(uintptr_t address, size_t size) {
    task_t *task = lock_or_count(-(int64_t)size);
    if (task == NULL) {
        return;
    }
    sampled_t *note = asks(task, address, size) ? noted(task, address) : NULL;
    if (note != NULL) {
        take_out(&task->sample, note);
    }
    count_now(task, -(int64_t)size);
    task_unlock(task);
}

/* A block of the sample goes, in a task's thread.  `object`: it is one of Python's small
 * objects, which count one by one for this task. */
HIDDEN void sampled_goes(uintptr_t address, size_t size, int object) {
    task_t *task = lock_or_count(-(int64_t)size);
    if (task == NULL) {
        return;
    }
    if (asks(task, address, size)) {
        sampled_t *note = noted(task, address);
        if (note != NULL) {
            take_out(&task->sample, note);
        }
        else {
            others_went(task, size, object);
        }
    }
    count_now(task, -(int64_t)size);
    task_unlock(task);
}

/* A task begins: none of its blocks is noted yet.  Its table stays for it. */
HIDDEN void sample_begins(sample_t *sample) {
    *sample = (sample_t){.notes = sample->notes, .places = sample->places};
}

/* By how much a peak may be off for what is estimated of others' blocks, in bytes. */
HIDDEN int64_t sample_noise(const sample_t *sample) {
    return sample->others < TRIFLE ? 0 : (int64_t)sample->noise;
}
