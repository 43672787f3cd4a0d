/* A job that a task gives to a pool of threads counts for the task.
 *
 * The threads of a pool that was there before the task are nobody's.  So the job takes
 * its task along: carry() puts a cover around the function, which sets the task while
 * the function runs (pool_jobs.py calls it where jobs are submitted).
 *
 * A job may also come from an event loop in a thread of its own, to which the task has
 * given a coroutine.  That is known from the context: begin() leaves a note of the task
 * in a context variable, and what is scheduled from there inherits it, through
 * asyncio's callbacks, tasks and to_thread().
 *
 * Notes and covers may outlive their task: its generation tells that it has ended.  In a
 * forked child they mean nothing, as its parent's slots are not its own: `forks` tells.
 *
 * All under the GIL.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "native.h"
#include "pool_jobs.h"

/* A task of this process, as an object. */
typedef struct {
    PyObject_HEAD
    ref_t task;
    unsigned forks;
} note_t;

static PyTypeObject NOTE = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "dask_memdash.measure._native.Note",
    .tp_basicsize = sizeof(note_t),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "The task that a context belongs to.",
};

static PyObject *variable; /* the context variable */

/* ---- begin and end ---------------------------------------------------------------- */

/* Note the task in the current context.  Returns what leave_note() needs, or NULL. */
HIDDEN PyObject *note_task(ref_t task) {
    note_t *note = variable != NULL ? PyObject_New(note_t, &NOTE) : NULL;
    if (note == NULL) {
        PyErr_Clear();
        return NULL;
    }
    note->task = task;
    note->forks = forks;
    PyObject *token = PyContextVar_Set(variable, (PyObject *)note);
    Py_DECREF(note);
    if (token == NULL) {
        PyErr_Clear();
    }
    return token;
}

/* Take the note back.  In another context than it was made in, it stays and is stale. */
HIDDEN void drop_note(PyObject *token) {
    if (token != NULL) {
        PyObject *type, *value, *trace;
        PyErr_Fetch(&type, &value, &trace);
        if (PyContextVar_Reset(variable, token) != 0) {
            PyErr_Clear();
        }
        PyErr_Restore(type, value, trace);
        Py_DECREF(token);
    }
}

/* ---- a function with its task ------------------------------------------------------ */

typedef struct {
    PyObject_HEAD
    PyObject *function;
    ref_t task;
    unsigned forks;
} cover_t;

static inline void hand_in(void) {
    if (me.pending != 0) {
        count_step(me.pending);
    }
}

static PyObject *cover_call(PyObject *self, PyObject *args, PyObject *kwargs) {
    cover_t *cover = (cover_t *)self;
    if (cover->forks != forks) {
        return PyObject_Call(cover->function, args, kwargs);
    }
    ref_t before = me.now;
    hand_in();
    me.now = cover->task;
    PyObject *result = PyObject_Call(cover->function, args, kwargs);
    if (cover->forks == forks) { /* else it has forked, and counts nothing */
        hand_in();
        me.now = before;
    }
    return result;
}

static int cover_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(((cover_t *)self)->function);
    return 0;
}

static int cover_clear(PyObject *self) {
    Py_CLEAR(((cover_t *)self)->function);
    return 0;
}

static void cover_dealloc(PyObject *self) {
    PyObject_GC_UnTrack(self);
    cover_clear(self);
    PyObject_GC_Del(self);
}

/* What is asked of the function that it does not have itself is the function's. */
static PyObject *cover_getattr(PyObject *self, PyObject *name) {
    return PyObject_GetAttr(((cover_t *)self)->function, name);
}

static PyObject *cover_repr(PyObject *self) {
    return PyObject_Repr(((cover_t *)self)->function);
}

static PyTypeObject COVER = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "dask_memdash.measure._native.Job",
    .tp_basicsize = sizeof(cover_t),
    .tp_flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "A function that counts for a task wherever it is called.",
    .tp_call = cover_call,
    .tp_traverse = cover_traverse,
    .tp_clear = cover_clear,
    .tp_dealloc = cover_dealloc,
    .tp_getattro = cover_getattr,
    .tp_repr = cover_repr,
};

/* The task that the current thread or else the current context works for. */
static ref_t whose(void) {
    ref_t task = me.now;
    PyObject *note = NULL;
    if (task.task == NULL && variable != NULL) {
        if (PyContextVar_Get(variable, NULL, &note) < 0) {
            PyErr_Clear();
        }
        if (note != NULL && Py_TYPE(note) == &NOTE && ((note_t *)note)->forks == forks) {
            task = ((note_t *)note)->task;
        }
        Py_XDECREF(note);
    }
    if (task.task != NULL && !still_runs(task)) {
        task.task = NULL;
    }
    return task;
}

HIDDEN PyObject *native_carry(PyObject *Py_UNUSED(module), PyObject *function) {
    ref_t task = whose();
    if (task.task == NULL) {
        return Py_NewRef(function);
    }
    cover_t *cover = PyObject_GC_New(cover_t, &COVER);
    if (cover == NULL) { /* it is counted for nobody */
        PyErr_Clear();
        return Py_NewRef(function);
    }
    cover->function = Py_NewRef(function);
    cover->task = task;
    cover->forks = forks;
    PyObject_GC_Track(cover);
    return (PyObject *)cover;
}

/* As a thread that nobody's pool starts must not begin as the task's. */
HIDDEN PyObject *native_apart(PyObject *Py_UNUSED(module), PyObject *const *args,
                              Py_ssize_t n, PyObject *names) {
    if (n < 1) {
        PyErr_SetString(PyExc_TypeError, "apart() takes a function");
        return NULL;
    }
    ref_t task = me.now;
    unsigned before = forks;
    hand_in();
    me.now.task = NULL;
    PyObject *result = PyObject_Vectorcall(args[0], args + 1, (size_t)(n - 1), names);
    if (before == forks) {
        me.now = task;
    }
    return result;
}

HIDDEN int pool_jobs_ready(void) {
    if (variable == NULL) {
        variable = PyContextVar_New("memdash_task", NULL);
    }
    return variable == NULL || PyType_Ready(&NOTE) < 0 || PyType_Ready(&COVER) < 0 ? -1 : 0;
}
