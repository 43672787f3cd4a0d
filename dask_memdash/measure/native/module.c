/* The module _native: install and remove, begin and end, and what state it all is in.
 *
 * Arenas of Python's small objects come from mmap() and are hooked as CPython provides
 * for (PyObject_SetArenaAllocator).
 *
 * install(), uninstall(), look() and attach_arrow() are called under the GIL and under
 * tally.py's lock; begin() and end() in a task's own thread.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "native.h"
#include "brake.h"
#include "pool_jobs.h"
#include "small_objects.h"

#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* What end() needs to know of a begin(); tasks within tasks make a list of them. */
typedef struct frame {
    struct frame *outer;
    ref_t outer_task;
    PyObject *note; /* of the task in its context; may be NULL */
    ref_t task;
    unsigned installs;
    long missed;
} frame_t;

/* What a task's counts may lack, as told by end(); tally.py has the same numbers. */
enum { MISSED_TASK = 1, MISSED_PYTHON = 2, MISSED_ARROW = 8, BY_OBJECTS = 16 };

static int armed;         /* whether begin() does anything */
static unsigned epoch;    /* one more in every forked child */
static unsigned installs; /* how often hooks have been put in or out */
static PyObject *on_arrow; /* called once when libarrow has come; may be NULL */
static THREAD_LOCAL int64_t most_objects, most_arenas; /* of its last task by objects */
static THREAD_LOCAL ended_t last; /* task of this thread */
static int arrow_seen;     /* whether it has been, and was not in vain */

#define NO_ARGUMENTS PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)

/* ---- arenas of small objects ---------------------------------------------------- */

static PyObjectArenaAllocator arena_next;
static int64_t arena_bytes; /* by how much all arenas have grown since they are hooked */

static void *arena_alloc(void *Py_UNUSED(ctx), size_t size) {
    me.in_arena = 1;
    void *arena = arena_next.alloc(arena_next.ctx, size);
    me.in_arena = 0;
    if (arena != NULL) {
        if (me.now.task != NULL && me.now.task->by_objects) {
            count_arena((int64_t)size);
        }
        else if (me.now.task != NULL) {
            block_came(arena, size);
        }
        __atomic_add_fetch(&arena_bytes, (int64_t)size, __ATOMIC_RELAXED);
    }
    return arena;
}

static void arena_free(void *Py_UNUSED(ctx), void *arena, size_t size) {
    ref_t task = me.now;
    if (task.task != NULL && task.task->by_objects) {
        count_arena(-(int64_t)size);
        me.now.task = NULL; /* it may be another task's, and else is nobody's */
    }
    if (anybody_counts()) {
        block_goes(arena, size);
    }
    me.now = task;
    objects_arena_goes(arena, size);
    __atomic_sub_fetch(&arena_bytes, (int64_t)size, __ATOMIC_RELAXED);
    arena_next.free(arena_next.ctx, arena, size);
}

static int arenas_ours(void) {
    PyObjectArenaAllocator now;
    PyObject_GetArenaAllocator(&now);
    return now.alloc == arena_alloc && now.free == arena_free;
}

static void hook_arenas(void) {
    PyObjectArenaAllocator now;
    PyObject_GetArenaAllocator(&now);
    if (arena_next.alloc == NULL) {
        arena_next = now;
    }
    if (now.ctx == arena_next.ctx && now.alloc == arena_next.alloc &&
        now.free == arena_next.free) {
        PyObjectArenaAllocator own = {arena_next.ctx, arena_alloc, arena_free};
        PyObject_SetArenaAllocator(&own);
    }
}

/* ---- whether the wrappers are reached ------------------------------------------- */

/* A task of this thread's own that counts a few calls, to see whether it does. */
typedef struct {
    task_t task;
    thread_t before;
} probe_t;

static void probe_begin(probe_t *probe) {
    probe->task = (task_t){.generation = 0};
    probe->before = me;
    me.now = (ref_t){&probe->task, 1}; /* not its generation: nothing else takes it in */
    me.pending = 0;
}

/* Returns what was counted, in bytes; it must be less than STEP. */
static int64_t probe_end(probe_t *probe) {
    int64_t counted = me.pending;
    me = probe->before;
    return counted;
}

static int python_reached(void) {
    probe_t probe;
    probe_begin(&probe);
    void *block = PyMem_RawMalloc(64);
    int64_t counted = probe_end(&probe);
    PyMem_RawFree(block);
    return counted > 0;
}

/* Whether each small object is allocated by itself (PYTHONMALLOC=malloc). */
static int objects_reached(void) {
    enum { OBJECTS = 32 };
    void *blocks[OBJECTS];
    probe_t probe;
    probe_begin(&probe);
    for (int i = 0; i < OBJECTS; i++) {
        blocks[i] = PyObject_Malloc(40);
    }
    int64_t counted = probe_end(&probe);
    for (int i = 0; i < OBJECTS; i++) {
        PyObject_Free(blocks[i]);
    }
    return counted >= OBJECTS * 40;
}

/* ---- mappings, begin and end ---------------------------------------------------- */

/* Memory that slots are in.  Never unmapped: a thread may be writing into it. */
typedef struct {
    char *base;
    Py_ssize_t size;
    unsigned epoch; /* a forked child has no business in its parent's recorder */
} mapping_t;

static const char *const MAPPING = "dask_memdash.measure._native.mapping";

static PyObject *native_map_slots(PyObject *Py_UNUSED(module), PyObject *args) {
    int fd;
    Py_ssize_t size;
    struct stat status;
    if (!PyArg_ParseTuple(args, "in:map_slots", &fd, &size)) {
        return NULL;
    }
    if (size < (Py_ssize_t)sizeof(counters_t)) {
        PyErr_Format(PyExc_ValueError, "a mapping of %zd bytes holds no slot", size);
        return NULL;
    }
    if (fd >= 0) { /* a page behind the end of the file is a SIGBUS */
        if (fstat(fd, &status) != 0) {
            return PyErr_SetFromErrno(PyExc_OSError);
        }
        if (status.st_size < size) {
            PyErr_Format(PyExc_ValueError, "the file has %lld bytes, not %zd",
                         (long long)status.st_size, size);
            return NULL;
        }
    }
    void *base = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE,
                      fd >= 0 ? MAP_SHARED : MAP_SHARED | MAP_ANONYMOUS, fd, 0);
    if (base == MAP_FAILED) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    mapping_t *mapping = PyMem_RawMalloc(sizeof *mapping);
    if (mapping == NULL) {
        munmap(base, (size_t)size);
        return PyErr_NoMemory();
    }
    *mapping = (mapping_t){base, size, epoch};
    return Py_BuildValue("NN", PyCapsule_New(mapping, MAPPING, NULL),
                         PyMemoryView_FromMemory(base, size, PyBUF_WRITE));
}

/* Look at libraries that have come since the last look, and tell Python if Arrow's is
 * among them.  Returns whether Arrow allocated meanwhile without being counted. */
static int look_at_what_came(void) {
    if (got_changed()) {
        got_look(0);
    }
    if (arrow_seen || !__atomic_load_n(&arrow_came, __ATOMIC_RELAXED) || on_arrow == NULL) {
        return 0;
    }
    PyObject *result = PyObject_CallNoArgs(on_arrow);
    arrow_seen = result == Py_True;
    Py_XDECREF(result);
    PyErr_Clear();
    return 1;
}

static PyObject *native_begin(PyObject *Py_UNUSED(module), PyObject *const *args,
                              Py_ssize_t n) {
    if (n < 2 || n > 3) {
        PyErr_SetString(PyExc_TypeError,
                        "begin() takes a mapping, an offset, and whether by objects");
        return NULL;
    }
    const mapping_t *mapping = PyCapsule_GetPointer(args[0], MAPPING);
    Py_ssize_t offset = mapping != NULL ? PyLong_AsSsize_t(args[1]) : -1;
    if (offset == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (offset < 0 || offset % 8 != 0 ||
        offset > mapping->size - (Py_ssize_t)sizeof(counters_t)) {
        PyErr_Format(PyExc_ValueError, "there is no slot at %zd of %zd bytes", offset,
                     mapping->size);
        return NULL;
    }
    if (!armed || mapping->epoch != epoch) {
        Py_RETURN_FALSE;
    }
    look_at_what_came();
    /* The frame's own memory tells whether Python's allocator still reaches us. */
    probe_t probe;
    probe_begin(&probe);
    frame_t *frame = PyMem_RawMalloc(sizeof *frame);
    int64_t reached = probe_end(&probe);
    if (frame == NULL) {
        Py_RETURN_FALSE;
    }
    int has_place = offset + LINE_OFFSET + LINE_SIZE <= mapping->size;
    int by_objects = ((n == 3 && args[2] == Py_True) || objects_are_on()) &&
                     arenas_ours() && objects_on();
    ref_t task = task_begin((counters_t *)(void *)(mapping->base + offset),
                            has_place ? mapping->base + offset + LINE_OFFSET : NULL,
                            by_objects);
    if (task.task == NULL) {
        if (by_objects) {
            objects_off(0);
        }
        PyMem_RawFree(frame);
        Py_RETURN_FALSE;
    }
    if (me.pending != 0) { /* the outer task's */
        count_step(me.pending);
    }
    me.objects = 0;
    *frame = (frame_t){.outer = me.frames, .outer_task = me.now, .task = task,
                       .note = note_task(task), .installs = installs,
                       .missed = reached ? 0 : MISSED_PYTHON};
    me.frames = frame;
    me.now = task;
    Py_RETURN_TRUE;
}

static PyObject *native_end(NO_ARGUMENTS) {
    frame_t *frame = me.frames;
    if (frame == NULL) {
        return PyLong_FromLong(MISSED_TASK);
    }
    me.now = frame->task; /* whatever has become of it */
    task_t *task = frame->task.task;
    int by_objects = task->by_objects;
    if (me.pending != 0 || me.objects != 0) {
        count_step(me.pending);
    }
    if (by_objects) {
        most_objects = task->most_objects;
        most_arenas = task->most_arenas;
        if (frame->installs == installs) { /* else they have been taken out since */
            objects_off(0);
        }
    }
    last = task_end(frame->task);
    me.now = frame->outer_task;
    me.pending = 0;
    me.frames = frame->outer;
    drop_note(frame->note); /* not before: it is Python, and may free others' garbage */
    long missed = frame->missed | (by_objects ? BY_OBJECTS : 0);
    missed |= (look_at_what_came() ? MISSED_ARROW : 0);
    missed |= frame->installs != installs ? MISSED_PYTHON : 0;
    probe_t probe;
    probe_begin(&probe);
    PyMem_RawFree(frame);
    return PyLong_FromLong(missed | (probe_end(&probe) == 0 ? MISSED_PYTHON : 0));
}

/* ---- install and uninstall ------------------------------------------------------ */

/* A forked child inherits the wrappers and its parent's mapping: it counts nothing until
 * it installs and maps for itself. */
static void in_child(void) {
    armed = 0;
    epoch++;
    slots_in_child();
    objects_in_child();
    residency_in_child();
    reused_in_child();
    got_in_child();
    brake_in_child();
}

static PyObject *native_install(PyObject *Py_UNUSED(module), PyObject *callback) {
    static int at_fork;
    const char *reason = got_find();
    if (reason != NULL) {
        return PyUnicode_FromString(reason);
    }
    if (!at_fork && pthread_atfork(NULL, NULL, in_child) != 0) {
        return PyUnicode_FromString("no handler for fork could be set");
    }
    at_fork = 1;
    got_arm();
    got_look(1);
    if (!python_reached()) {
        got_restore();
        return PyUnicode_FromString(
            "Python's memory does not come from the C library's malloc");
    }
    if (!residency_start()) {
        got_restore();
        return PyUnicode_FromString("no thread could be started");
    }
    hook_arenas();
    if (!armed) {
        installs++;
        objects_forget();
    }
    armed = 1;
    arrow_seen = 0;
    Py_XSETREF(on_arrow, callback == Py_None ? NULL : Py_NewRef(callback));
    Py_RETURN_NONE;
}

static PyObject *native_uninstall(NO_ARGUMENTS) {
    armed = 0;
    installs++;
    arrow_detach();
    got_restore();
    objects_off(1);
    if (arenas_ours()) {
        PyObject_SetArenaAllocator(&arena_next);
    }
    Py_CLEAR(on_arrow);
    return PyBool_FromLong(!arenas_ours() && !python_reached());
}

static PyObject *native_look(PyObject *Py_UNUSED(module), PyObject *all) {
    int whole = PyObject_IsTrue(all);
    if (whole < 0) {
        return NULL;
    }
    int more = armed ? got_look(whole) : 0;
    return PyLong_FromLong(more);
}

static PyObject *native_attach_arrow(PyObject *Py_UNUSED(module), PyObject *args) {
    const char *path;
    int pool;
    if (!PyArg_ParseTuple(args, "sp:attach_arrow", &path, &pool)) {
        return NULL;
    }
    const char *reason = armed ? arrow_attach(path, pool) : "nothing is installed";
    if (reason != NULL) {
        return PyUnicode_FromString(reason);
    }
    Py_RETURN_NONE;
}

static PyObject *native_state(NO_ARGUMENTS) {
    return Py_BuildValue(
        "{s:O,s:i,s:O,s:O,s:O,s:s,s:n}", "python", python_reached() ? Py_True : Py_False,
        "slots", got_slots(), "arenas", arenas_ours() ? Py_True : Py_False, "objects",
        objects_reached() ? Py_True : Py_False, "arrow",
        arrow_attached() ? Py_True : Py_False, "allocator", got_allocator(), "blocks",
        (Py_ssize_t)owned_blocks);
}

static PyObject *native_use_lines(PyObject *Py_UNUSED(module), PyObject *table) {
    const lines_t *to = NULL;
    if (table != Py_None) {
        to = PyCapsule_GetPointer(table, LINES_CAPSULE);
        if (to == NULL) {
            return NULL;
        }
        __atomic_store_n(&watched, to->watched, __ATOMIC_RELAXED); /* for good */
    }
    pthread_mutex_lock(&table_lock);
    lines = to;
    pthread_mutex_unlock(&table_lock);
    Py_RETURN_NONE;
}

static PyObject *native_arenas(NO_ARGUMENTS) {
    return PyLong_FromLongLong(__atomic_load_n(&arena_bytes, __ATOMIC_RELAXED));
}

static PyObject *native_objects(NO_ARGUMENTS) {
    return Py_BuildValue("LL", (long long)most_objects, (long long)most_arenas);
}

static PyObject *native_doubt(NO_ARGUMENTS) {
    return PyLong_FromLongLong((long long)last.doubt);
}

static PyObject *native_short_by(NO_ARGUMENTS) {
    return PyLong_FromLongLong((long long)last.short_by);
}

static PyObject *native_others(NO_ARGUMENTS) {
    return PyLong_FromLongLong((long long)last.others);
}

static PyObject *native_leave_looks_out(PyObject *Py_UNUSED(module), PyObject *yes) {
    __atomic_store_n(&looks_left_out, yes == Py_True, __ATOMIC_RELAXED);
    Py_RETURN_NONE;
}

static PyObject *native_files_mapped(NO_ARGUMENTS) {
    return PyLong_FromUnsignedLongLong(__atomic_load_n(&files_mapped, __ATOMIC_RELAXED));
}

static PyObject *native_mapped_by_allocators(NO_ARGUMENTS) {
    return PyLong_FromUnsignedLongLong(mapped_by_allocators());
}

/* ---- the module ----------------------------------------------------------------- */

static PyMethodDef METHODS[] = {
    {"map_slots", native_map_slots, METH_VARARGS,
     "map_slots(fd, size) -> (mapping, memoryview); anonymous memory if fd is -1."},
    {"begin", (PyCFunction)(void (*)(void))native_begin, METH_FASTCALL,
     "begin(mapping, offset[, by_objects]) -> whether this thread counts into that slot "
     "from now, small objects one by one if that is asked for and can be."},
    {"end", native_end, METH_NOARGS,
     "end() -> what the counts since the last begin may lack, a sum of MISSED_*."},
    {"install", native_install, METH_O,
     "install(on_arrow) -> None, or why not.  on_arrow() is called, in a task's thread, "
     "when libarrow has been loaded, until it gives True."},
    {"uninstall", native_uninstall, METH_NOARGS, "uninstall() -> whether no hook is left."},
    {"look", native_look, METH_O,
     "look(all) -> how many more slots were hooked; -1 if another thread looks."},
    {"attach_arrow", native_attach_arrow, METH_VARARGS,
     "attach_arrow(path, pool) -> None, or why Arrow's pool and threads are not counted; "
     "the threads alone if not pool."},
    {"use_lines", native_use_lines, METH_O,
     "use_lines(table) -> the lines of large blocks are known from now; None: no more."},
    {"carry", native_carry, METH_O,
     "carry(function) -> the same, for the task that this thread or context works for."},
    {"apart", (PyCFunction)(void (*)(void))native_apart, METH_FASTCALL | METH_KEYWORDS,
     "apart(function, ...) -> what it gives, called as if no task ran in this thread."},
    {"brake_set", brake_set, METH_O,
     "brake_set(bytes) -> whether allocations beyond that RSS are refused; 0: none are."},
    {"brake_begin", brake_begin, METH_O,
     "brake_begin(may) -> whether the task that began in this thread may be refused some."},
    {"brake_end", brake_end, METH_NOARGS,
     "brake_end() -> (how many it was refused; of the first: its bytes, RSS, task's bytes)."},
    {"arenas", native_arenas, METH_NOARGS,
     "arenas() -> by how many bytes arenas have grown since they were hooked."},
    {"objects", native_objects, METH_NOARGS,
     "objects() -> (most of small objects, of arenas) in this thread's last task by objects."},
    {"doubt", native_doubt, METH_NOARGS,
     "doubt() -> by how much the peak of this thread's last task may be too high, as "
     "nobody saw that what it counts was touched."},
    {"short_by", native_short_by, METH_NOARGS,
     "short_by() -> by how much it may be too low, as looks were left out or came late."},
    {"others", native_others, METH_NOARGS,
     "others() -> what this thread's last task freed of others', in bytes."},
    {"leave_looks_out", native_leave_looks_out, METH_O,
     "leave_looks_out(yes) -> for tests: leave looks out as where they cost too much."},
    {"files_mapped", native_files_mapped, METH_NOARGS,
     "files_mapped() -> bytes of files that were mapped while hooks were in."},
    {"mapped_by_allocators", native_mapped_by_allocators, METH_NOARGS,
     "mapped_by_allocators() -> bytes that allocators of their own have mapped so far."},
    {"state", native_state, METH_NOARGS, "state() -> what is hooked now."},
    {NULL, NULL, 0, NULL}};

static int execute(PyObject *module) {
    /* Allocators and the variables above belong to the process, not an interpreter. */
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_ImportError, "it is for the main interpreter only");
        return -1;
    }
    if (PyModule_AddIntConstant(module, "SAMPLED", (long)SAMPLED) != 0) {
        return -1;
    }
    return pool_jobs_ready();
}

static PyModuleDef_Slot SLOTS[] = {
    {Py_mod_exec, (void *)execute},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED}, /* threads meet in counters.c's and slots.c's locks only */
#endif
    {0, NULL}};

static PyModuleDef MODULE = {PyModuleDef_HEAD_INIT,
                             .m_name = "_native",
                             .m_doc = "Counts what tasks allocate; see native_tally.py.",
                             .m_methods = METHODS,
                             .m_slots = SLOTS};

PyMODINIT_FUNC PyInit__native(void) {
    return PyModuleDef_Init(&MODULE);
}
