/* A task's counters: who adds to them, and how high its peak may have been.
 *
 * They are in shared memory, so that another process reads them without the GIL and still
 * has them after a SIGKILL.  Several threads may add to them (threads that the task
 * started, whoever frees its blocks, looks at what is resident), so a lock of the task
 * guards them, and its generation says whether it is still the task that somebody means.
 *
 * Small blocks are added up in the thread and given to the task in steps of STEP bytes:
 * the hot path writes thread-local memory only.
 */
#include "native.h"

#include <sched.h>

HIDDEN THREAD_LOCAL thread_t me;

HIDDEN void task_lock(task_t *task) {
    for (int tries = 0; __atomic_exchange_n(&task->lock, 1, __ATOMIC_ACQUIRE); tries++) {
        if (tries > 100) { /* whoever has it was sent off the processor */
            sched_yield();
        }
    }
}

HIDDEN void task_unlock(task_t *task) { __atomic_store_n(&task->lock, 0, __ATOMIC_RELEASE); }

/* What a task holds of its own: its net says by how much it made the process grow, less
 * what it freed of others'. */
HIDDEN int64_t held_by(const task_t *task) { return task->counters->net + task->others; }

/* With the task's lock held.  The stores are atomic so that a reader in another process
 * never sees half a number. */
static void add_locked(task_t *task, int64_t bytes) {
    counters_t *counters = task->counters;
    int64_t net = counters->net + bytes;
    __atomic_store_n(&counters->net, net, __ATOMIC_RELAXED);
    if (unlikely(net + task->others < 0)) { /* it has freed more than it ever had */
        task->surmised -= net + task->others;
        task->others = -net;
    }
    int64_t held = net + task->others;
    task->most = held > task->most ? held : task->most;
    if (held > counters->peak) {
        __atomic_store_n(&counters->peak, held, __ATOMIC_RELAXED);
    }
}

static void move(int64_t *now, int64_t *most, int64_t bytes) {
    *now += bytes;
    *most = *now > *most ? *now : *most;
}

/* For a task that is known to run: with table_lock held. */
HIDDEN void add_to_task(task_t *task, int64_t bytes, int64_t others) {
    task_lock(task);
    task->others += others;
    add_locked(task, bytes);
    task_unlock(task);
}

/* A block of it goes that was looked at before, with all that was open beside it: what
 * is found from now on was not there together with the block.  `others`: what of that
 * was there before the task. */
HIDDEN void take_off_task(task_t *task, int64_t bytes, int64_t others) {
    task_lock(task);
    task->others += others;
    add_locked(task, -bytes);
    task->most -= bytes;
    task_unlock(task);
}

/* A look has found more in a block, or less.  It may have been there when the task held
 * most since the look before. */
HIDDEN void found_in_task(task_t *task, int64_t more) {
    task_lock(task);
    task->most += more > 0 ? more : 0;
    add_locked(task, more);
    task_unlock(task);
}

/* All that a task has open was looked at, or may hold so many bytes more than was seen:
 * its peak so far is known, or how high it can have been.  The latter less the former is
 * its error, unless others have written a larger one. */
HIDDEN void settle(task_t *task, int64_t unseen) {
    counters_t *counters = task->counters;
    task_lock(task);
    if (task->most + unseen > task->at_most) {
        task->at_most = task->most + unseen;
    }
    task->most = held_by(task);
    int64_t doubt = task->at_most - counters->peak, error = counters->error;
    doubt = doubt > 0 ? doubt : 0;
    if (doubt > error || (doubt < error && error == task->said)) {
        __atomic_store_n(&counters->error, doubt, __ATOMIC_RELAXED);
        task->said = doubt;
    }
    task_unlock(task);
}

/* For a task that is known to run: with table_lock held. */
HIDDEN void say_filling(task_t *task, int64_t more) {
    task->filling += more;
    __atomic_store_n(&task->counters->filling, task->filling, __ATOMIC_RELAXED);
}

/* Add to the current thread's task, which is locked. */
HIDDEN void add_to_locked(task_t *task, int64_t bytes) {
    add_locked(task, bytes);
    if (task->by_objects) {
        move(&task->objects, &task->most_objects, me.objects);
    }
    me.objects = 0;
}

/* As much, if it still runs; else this thread, which was started by it, counts no longer. */
static void add_with_others(int64_t bytes, int64_t others) {
    task_t *task = me.now.task;
    task_lock(task);
    int runs = task->generation == me.now.generation;
    if (runs) {
        task->others += others;
        add_to_locked(task, bytes);
    }
    task_unlock(task);
    me.objects = 0;
    if (!runs) {
        me.now.task = NULL;
    }
}

HIDDEN void add_to_mine(int64_t bytes) { add_with_others(bytes, 0); }

/* A block goes, in a task's thread, that was there before the task. */
HIDDEN void others_go(int64_t bytes) { add_with_others(-bytes, bytes); }

/* An arena has come or goes, in a thread whose task counts small objects instead. */
HIDDEN void count_arena(int64_t bytes) {
    task_t *task = me.now.task;
    task_lock(task);
    if (task->generation == me.now.generation) {
        move(&task->arenas, &task->most_arenas, bytes);
    }
    task_unlock(task);
}

HIDDEN void count_step(int64_t bytes) {
    me.pending = 0;
    if (me.now.task != NULL) {
        add_to_mine(bytes);
    }
}

HIDDEN void add_if_it_runs(ref_t owner, int64_t bytes, int64_t others) {
    task_lock(owner.task);
    if (owner.task->generation == owner.generation) {
        owner.task->others += others;
        add_locked(owner.task, bytes);
    }
    task_unlock(owner.task);
}

HIDDEN int still_runs(ref_t ref) {
    task_lock(ref.task);
    int runs = ref.task->generation == ref.generation;
    task_unlock(ref.task);
    return runs;
}
