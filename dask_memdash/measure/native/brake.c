/* The brake: an allocation that would end the worker fails instead, in its own task.
 *
 * Of NumPy's data and of Arrow's pool only: those two turn a refusal into MemoryError.
 * Native code of others may abort when malloc() gives NULL, so its wrappers refuse
 * nothing.  And only in a thread between brake_begin() and brake_end(), which a task's
 * own thread calls: never in what a task starts, whose errors nobody would see.
 *
 * Refused is what would take the process beyond a line: its RSS now, and the request, at
 * least AT_LEAST bytes.  What was refused is noted here, natively, so that a task which
 * swallows the MemoryError cannot hide it.  After MOST refusals in one task it is let
 * go: it may be trying again for ever.
 *
 * NumPy's handler (NEP 49) belongs to a context.  Ours calls NumPy's own and frees what
 * came from it as that does, so arrays outlive the brake; where a task, or the user, has
 * set another one, that stays.  NumPy's C API is reached by its table, whose places
 * never change, so that this builds and loads without NumPy.
 *
 * Threads: what is asked on the way of an allocation is the thread's own, or atomic.
 * Nothing is undone at removal but the line, without which nothing is refused.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "native.h"
#include "brake.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { AT_LEAST = 1 << 20, MOST = 100 };

static size_t line; /* bytes of RSS; 0: off */
static int statm = -1;
static size_t page;

typedef struct {
    int on;
    unsigned refused;
    size_t asked, rss; /* at the first refusal … */
    int64_t held;      /* … and what the task had then */
} brake_t;

static THREAD_LOCAL brake_t mine;

/* RSS of this process in bytes; 0 where that cannot be read. */
static size_t rss_now(void) {
    char text[128];
    ssize_t n = pread(statm, text, sizeof text - 1, 0);
    if (n <= 0) {
        return 0;
    }
    text[n] = '\0';
    char *resident;
    strtoul(text, &resident, 10);
    return (size_t)strtoul(resident, NULL, 10) * page;
}

HIDDEN int brake_refuses(size_t size) {
    if (likely(size < AT_LEAST) || likely(!mine.on)) {
        return 0;
    }
    size_t most = __atomic_load_n(&line, __ATOMIC_RELAXED);
    if (most == 0 || mine.refused >= MOST) {
        return 0;
    }
    int error = errno;
    size_t rss = rss_now();
    errno = error;
    if (rss == 0 || (rss <= most && size <= most - rss)) {
        return 0;
    }
    if (mine.refused++ == 0) {
        mine.asked = size;
        mine.rss = rss;
        const counters_t *counters = me.now.task != NULL ? me.now.task->counters : NULL;
        if (counters != NULL) {
            mine.held = __atomic_load_n(&counters->net, __ATOMIC_RELAXED) +
                        __atomic_load_n(&counters->filling, __ATOMIC_RELAXED);
        }
    }
    return 1;
}

HIDDEN void brake_in_child(void) {
    line = 0; /* and the file is the parent's */
    mine = (brake_t){.on = 0};
    if (statm >= 0) {
        close(statm);
        statm = -1;
    }
}

/* ---- NumPy's data ---------------------------------------------------------------- */

/* As numpy/ndarraytypes.h has them (version 1). */
typedef struct {
    void *ctx;
    void *(*malloc)(void *ctx, size_t size);
    void *(*calloc)(void *ctx, size_t count, size_t size);
    void *(*realloc)(void *ctx, void *old, size_t size);
    void (*free)(void *ctx, void *block, size_t size);
} data_allocator_t;

typedef struct {
    char name[127];
    uint8_t version;
    data_allocator_t allocator;
} data_handler_t;

static const char *const CAPSULE = "mem_handler"; /* NumPy insists */
enum { SET_HANDLER = 304, GET_HANDLER = 305, DEFAULT_HANDLER = 306 };

static PyObject *(*set_handler)(PyObject *);
static PyObject *(*get_handler)(void);
static PyObject *default_handler; /* NumPy's own, and ours: both for good */
static PyObject *our_handler;
static data_allocator_t next;

static void *data_malloc(void *Py_UNUSED(ctx), size_t size) {
    return unlikely(brake_refuses(size)) ? NULL : next.malloc(next.ctx, size);
}

static void *data_calloc(void *Py_UNUSED(ctx), size_t count, size_t size) {
    size_t bytes = 0;
    if (__builtin_mul_overflow(count, size, &bytes) || unlikely(brake_refuses(bytes))) {
        return NULL;
    }
    return next.calloc(next.ctx, count, size);
}

/* How large the old one is, nobody says: what an array grows by is not refused. */
static void *data_realloc(void *Py_UNUSED(ctx), void *old, size_t size) {
    return next.realloc(next.ctx, old, size);
}

static void data_free(void *Py_UNUSED(ctx), void *block, size_t size) {
    next.free(next.ctx, block, size);
}

static data_handler_t own = {
    "memdash_brake", 1, {NULL, data_malloc, data_calloc, data_realloc, data_free}};

static PyObject *loaded(const char *name) {
    PyObject *text = PyUnicode_FromString(name);
    PyObject *module = text != NULL ? PyImport_GetModule(text) : NULL;
    Py_XDECREF(text);
    return module;
}

static void find_numpy(PyObject *umath) {
    PyObject *api = PyObject_GetAttrString(umath, "_ARRAY_API");
    void **table = api != NULL ? PyCapsule_GetPointer(api, NULL) : NULL;
    PyObject *usual = table != NULL ? *(PyObject **)table[DEFAULT_HANDLER] : NULL;
    if (usual != NULL && PyCapsule_IsValid(usual, CAPSULE)) {
        const data_handler_t *handler = PyCapsule_GetPointer(usual, CAPSULE);
        our_handler = handler->version == 1 ? PyCapsule_New(&own, CAPSULE, NULL) : NULL;
        if (our_handler != NULL) {
            next = handler->allocator;
            set_handler = (PyObject * (*)(PyObject *))(uintptr_t) table[SET_HANDLER];
            get_handler = (PyObject * (*)(void))(uintptr_t) table[GET_HANDLER];
            default_handler = Py_NewRef(usual);
        }
    }
    Py_XDECREF(api); /* the module keeps it */
    PyErr_Clear();
}

/* NumPy is never imported for the sake of it, and left alone while another thread still
 * imports it. */
static int numpy_ready(void) {
    if (our_handler == NULL) {
        PyObject *numpy = loaded("numpy");
        if (numpy != NULL && PyObject_HasAttrString(numpy, "ndarray")) {
            PyObject *umath = loaded("numpy._core._multiarray_umath");
            if (umath == NULL) {
                umath = loaded("numpy.core._multiarray_umath"); /* before NumPy 2 */
            }
            if (umath != NULL) {
                find_numpy(umath);
                Py_DECREF(umath);
            }
        }
        Py_XDECREF(numpy);
        PyErr_Clear();
    }
    return our_handler != NULL;
}

/* Put one handler in the place of the other, in this context. */
static void put(PyObject *handler, PyObject *in_place_of) {
    PyObject *now = get_handler();
    if (now == in_place_of) {
        Py_XDECREF(set_handler(handler));
    }
    Py_XDECREF(now);
    PyErr_Clear();
}

/* ---- called from Python ---------------------------------------------------------- */

HIDDEN PyObject *brake_set(PyObject *Py_UNUSED(module), PyObject *bytes) {
    size_t to = PyLong_AsSize_t(bytes);
    if (to == (size_t)-1 && PyErr_Occurred()) {
        return NULL;
    }
    if (statm < 0 && to != 0) {
        page = (size_t)sysconf(_SC_PAGESIZE);
        statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    }
    __atomic_store_n(&line, statm >= 0 ? to : 0, __ATOMIC_RELAXED);
    return PyBool_FromLong(statm >= 0 || to == 0);
}

HIDDEN PyObject *brake_begin(PyObject *Py_UNUSED(module), PyObject *may) {
    int on = PyObject_IsTrue(may);
    if (on < 0) {
        return NULL;
    }
    on = on && me.now.task != NULL && __atomic_load_n(&line, __ATOMIC_RELAXED) != 0;
    mine = (brake_t){.on = on};
    if (on && numpy_ready()) {
        put(our_handler, default_handler);
    }
    return PyBool_FromLong(on);
}

HIDDEN PyObject *brake_end(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
    brake_t was = mine;
    mine = (brake_t){.on = 0};
    if (was.on && our_handler != NULL) {
        put(default_handler, our_handler);
    }
    return Py_BuildValue("InnL", was.refused, (Py_ssize_t)was.asked, (Py_ssize_t)was.rss,
                         (long long)was.held);
}
