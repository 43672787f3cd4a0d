/* What Python's full collections free in a task's thread.
 *
 * They look through all objects for such as only hold each other.  What they find may be
 * an earlier task's garbage, which is no part of what this task held.  Of large blocks it
 * is known whose they are (slots.c).  Of small ones nobody knows: what they come to is
 * off the task's net, and by as much its peak from then on may be too low.  What a second
 * collection in the same task finds is taken for the task's own.
 */
#include "native.h"

HIDDEN void collection_begins(void) {
    if (me.now.task != NULL) {
        count_step(me.pending); /* lets a task go that is over */
    }
    if (me.now.task != NULL && !me.now.task->collected) {
        me.collects = 1;
        me.garbage = 0;
    }
}

HIDDEN void collection_ends(void) {
    if (!me.collects) {
        return;
    }
    if (me.now.task != NULL) {
        count_step(me.pending);
    }
    me.collects = 0;
    pthread_mutex_lock(&table_lock);
    task_t *task = me.now.task;
    if (task != NULL && task->generation == me.now.generation) {
        look_before_peak(task); /* until now there was no such doubt */
        task->collected = 1;
        task->others_at_most += me.garbage > 0 ? me.garbage : 0;
    }
    pthread_mutex_unlock(&table_lock);
}
