/* The tally: what the task in each thread allocates and frees, counted as it happens.
 *
 * Covers three sources: Python's raw domain (which also serves every Python object
 * of more than 512 bytes), the arenas that small objects are cut from, and the data
 * of NumPy arrays.  Each is a hook that calls whoever was there before and then adds
 * to the slot of the task that runs in the current thread.  A slot is 16 bytes of
 * shared memory (bytes now, bytes at most; see format.py), so that another process
 * reads it without the GIL and still has it after a SIGKILL.
 *
 * Does not cover: native code that calls malloc itself, other allocators (Arrow),
 * threads that a task starts, small objects that fit into arenas already there.
 * What to make of that, when to install and in which words to say what is not seen
 * is tally.py's matter.
 *
 * What a block weighs is always what the C library says it weighs, when it comes and
 * when it goes, so that counts cannot drift.  What a thread frees is taken off the
 * task in that thread, whoever allocated it: the net is by how much the process grew
 * by this task's hand, may be negative, and all nets together say by how much all
 * tasks did.  (Taking it off the allocating task would need a header on every block.)
 *
 * Threads: a hook touches its own thread's variables and slot only, since the raw
 * domain is used without the GIL and without a thread state.  install() and
 * uninstall() must not run at the same time as each other; tally.py holds a lock.
 *
 * Nothing here is ever unmapped or unloaded: somebody may hold on to a hook for good.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#define NPY_NO_DEPRECATED_API NPY_1_22_API_VERSION
#define NPY_TARGET_VERSION NPY_1_22_API_VERSION /* NEP 49; any later NumPy will do */
#include <numpy/arrayobject.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frames/lines.h"
#ifdef __APPLE__
#include <malloc/malloc.h>
#define usable_size malloc_size
#else
#include <malloc.h>
#define usable_size malloc_usable_size
#endif

/* In glibc's static TLS block a variable is one instruction away, and no first touch
 * in a new thread has to allocate.  musl takes no such module at run time. */
#ifdef __GLIBC__
#define THREAD_LOCAL static __thread __attribute__((tls_model("initial-exec")))
#else
#define THREAD_LOCAL static __thread
#endif

/* ---- a task's slot ------------------------------------------------------------- */

typedef struct {
    int64_t net;  /* bytes allocated less bytes freed since begin() */
    int64_t peak; /* the most that net has been, at least 0 */
} slot_t;

/* What end() needs to know of a begin(); tasks within tasks make a list of them. */
typedef struct frame {
    struct frame *outer;
    slot_t *outer_slot;
    void *outer_place;
    PyObject *handler; /* of ours, in the task's context; NULL where none is needed */
    PyObject *before;  /* the handler whose place it took */
    unsigned hooked;
    long missed;
} frame_t;

/* What a task's counts may lack, as told by end(); tally.py has the same numbers. */
enum { MISSED_TASK = 1, MISSED_PYTHON = 2, MISSED_NUMPY = 4 };

THREAD_LOCAL slot_t *slot; /* of the innermost task; NULL: count nothing */
THREAD_LOCAL frame_t *frames;
THREAD_LOCAL void *place; /* where the line of its largest block stands; may be NULL */

static int armed;       /* whether begin() does anything */
static unsigned epoch;  /* one more in every forked child */
static unsigned hooked; /* how often the raw domain has been hooked */

/* Only the slot's own thread writes it.  The stores are atomic so that a reader in
 * another process never sees half a number. */
static inline void add(int64_t n) {
    slot_t *s = slot;
    if (s != NULL) {
        int64_t net = s->net + n;
        __atomic_store_n(&s->net, net, __ATOMIC_RELAXED);
        if (net > s->peak) {
            __atomic_store_n(&s->peak, net, __ATOMIC_RELAXED);
        }
    }
}

/* ---- lines of large blocks: frames/lines.h ---------------------------------------- */

static const int NONE_WATCHED;
static const lines_t *lines; /* NULL: nobody wants to know */
static const int *watched = &NONE_WATCHED;

__attribute__((noinline)) static void large_came(void *block, int64_t bytes) {
    const lines_t *to = __atomic_load_n(&lines, __ATOMIC_ACQUIRE);
    if (to != NULL && place != NULL && slot != NULL) {
        to->came(place, block, (size_t)bytes);
    }
}

__attribute__((noinline)) static void large_goes(void *block) {
    const lines_t *to = __atomic_load_n(&lines, __ATOMIC_ACQUIRE);
    if (to != NULL) {
        to->gone(block);
    }
}

static inline void resized(void *block, int64_t before, int64_t bytes) {
    add(bytes - before);
    if (__builtin_expect(bytes >= (int64_t)LARGE, 0)) {
        large_came(block, bytes);
    }
}

/* A block has come, or goes: said before it does, as its address may be used at once. */
static inline void came(void *block, int64_t bytes) {
    resized(block, 0, bytes);
}

static inline void goes(void *block, int64_t bytes) {
    add(-bytes);
    if (__builtin_expect(bytes >= (int64_t)LARGE, 0)) {
        large_goes(block);
    }
}

/* What a block weighs, where anybody wants to know. */
static inline int64_t weight(void *block) {
    return block != NULL && slot != NULL ? (int64_t)usable_size(block) : 0;
}

/* The same for one that goes: it may be a large one of a task in another thread. */
static inline int64_t last_weight(void *block) {
    int wanted = slot != NULL ||
                 __atomic_load_n(__atomic_load_n(&watched, __ATOMIC_RELAXED),
                                 __ATOMIC_RELAXED) != 0;
    return block != NULL && wanted ? (int64_t)usable_size(block) : 0;
}

/* ---- the raw domain ------------------------------------------------------------ */

/* Whom our hooks call.  Replaced as a whole and never freed, as a thread without the
 * GIL may be reading it.  Our own entry keeps this one's ctx: such a thread may also
 * catch one's function with the other's ctx. */
static const PyMemAllocatorEx *raw_next;
#define RAW_NEXT __atomic_load_n(&raw_next, __ATOMIC_ACQUIRE)

static void *raw_malloc(void *Py_UNUSED(ctx), size_t size) {
    const PyMemAllocatorEx *next = RAW_NEXT;
    void *block = next->malloc(next->ctx, size);
    came(block, weight(block));
    return block;
}

static void *raw_calloc(void *Py_UNUSED(ctx), size_t count, size_t size) {
    const PyMemAllocatorEx *next = RAW_NEXT;
    void *block = next->calloc(next->ctx, count, size);
    came(block, weight(block));
    return block;
}

static void *raw_realloc(void *Py_UNUSED(ctx), void *old, size_t size) {
    const PyMemAllocatorEx *next = RAW_NEXT;
    int64_t less = last_weight(old);
    if (less >= (int64_t)LARGE) {
        large_goes(old);
    }
    void *block = next->realloc(next->ctx, old, size);
    if (block != NULL) { /* else the old one is still there */
        resized(block, less, weight(block));
    }
    return block;
}

static void raw_free(void *Py_UNUSED(ctx), void *block) {
    const PyMemAllocatorEx *next = RAW_NEXT;
    goes(block, last_weight(block));
    next->free(next->ctx, block);
}

static const PyMemAllocatorDomain DOMAINS[] = {
    PYMEM_DOMAIN_RAW, PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ};
enum { N_DOMAINS = 3 };

static int same(const PyMemAllocatorEx *a, const PyMemAllocatorEx *b) {
    return memcmp(a, b, sizeof *a) == 0; /* five pointers */
}

static PyMemAllocatorEx own_allocator(void) {
    PyMemAllocatorEx own = {raw_next != NULL ? raw_next->ctx : NULL, raw_malloc,
                            raw_calloc, raw_realloc, raw_free};
    return own;
}

/* Whether a domain calls our hook and nobody else's before. */
static int domain_ours(PyMemAllocatorDomain domain) {
    PyMemAllocatorEx now, own = own_allocator();
    PyMem_GetAllocator(domain, &now);
    return same(&now, &own);
}

/* Whether the raw domain reaches our hook, be it through somebody who wrapped it.
 * Nothing but a try can tell: a wrapper does not say whom it calls. */
static int raw_reached(void) {
    slot_t probe = {0, 0}, *mine = slot;
    slot = &probe;
    void *block = PyMem_RawMalloc(64);
    slot = mine;
    PyMem_RawFree(block);
    return block != NULL && probe.net > 0;
}

/* Whether Python's debug hooks are on below: then a block begins 16 bytes before its
 * address, and usable_size() of it is nonsense.  They fill new memory with 0xCD.
 * (Valgrind remarks on the look at a fresh block: it is meant.) */
static int debug_hooks_on(const PyMemAllocatorEx *allocator) {
    enum { SIZE = 64 };
    unsigned char *block = allocator->malloc(allocator->ctx, SIZE);
    int filled = 0;
    for (int i = 0; block != NULL && i < SIZE; i++) {
        filled += block[i] == 0xCD;
    }
    allocator->free(allocator->ctx, block);
    return filled == SIZE;
}

/* ---- arenas of small objects --------------------------------------------------- */

static PyObjectArenaAllocator arena_next;
static int64_t arena_bytes; /* by how much all arenas have grown since they are hooked */

static void *arena_alloc(void *Py_UNUSED(ctx), size_t size) {
    void *arena = arena_next.alloc(arena_next.ctx, size);
    int64_t more = arena != NULL ? (int64_t)size : 0;
    add(more);
    __atomic_add_fetch(&arena_bytes, more, __ATOMIC_RELAXED);
    return arena;
}

static void arena_free(void *Py_UNUSED(ctx), void *arena, size_t size) {
    add(-(int64_t)size);
    __atomic_sub_fetch(&arena_bytes, (int64_t)size, __ATOMIC_RELAXED);
    arena_next.free(arena_next.ctx, arena, size);
}

static int arenas_ours(void) {
    PyObjectArenaAllocator now;
    PyObject_GetArenaAllocator(&now);
    return now.alloc == arena_alloc && now.free == arena_free;
}

/* ---- NumPy's data -------------------------------------------------------------- */

/* A handler that counts and calls the one whose place it took.  It lives in a
 * capsule; every array made through it holds the capsule, which holds the next. */
typedef struct {
    PyDataMem_Handler own;
    const PyDataMem_Handler *next;
    PyObject *next_capsule;
    int from_malloc; /* whether the next one's blocks are the C library's; of a user's
                      * own block only NumPy knows the size, and passes it on */
} chain_t;

static const char *const CAPSULE = "mem_handler"; /* NumPy insists */

/* While the next handler works nothing is counted: it may well use the raw domain, as
 * NumPy's own does since 2.5, and its bytes would count twice. */
#define UNCOUNTED(call) \
    do { \
        slot_t *mine = slot; \
        slot = NULL; \
        call; \
        slot = mine; \
    } while (0)

static inline int64_t data_weight(const chain_t *chain, void *block, size_t size) {
    return chain->from_malloc ? weight(block) : block != NULL ? (int64_t)size : 0;
}

static void *data_malloc(void *ctx, size_t size) {
    const chain_t *chain = ctx;
    const PyDataMemAllocator *next = &chain->next->allocator;
    void *block;
    UNCOUNTED(block = next->malloc(next->ctx, size));
    came(block, data_weight(chain, block, size));
    return block;
}

static void *data_calloc(void *ctx, size_t count, size_t size) {
    const chain_t *chain = ctx;
    const PyDataMemAllocator *next = &chain->next->allocator;
    void *block;
    UNCOUNTED(block = next->calloc(next->ctx, count, size));
    came(block, data_weight(chain, block, count * size));
    return block;
}

static void *data_realloc(void *ctx, void *old, size_t size) {
    const chain_t *chain = ctx;
    const PyDataMemAllocator *next = &chain->next->allocator;
    int64_t less = chain->from_malloc ? last_weight(old) : 0;
    void *block;
    if (less >= (int64_t)LARGE || !chain->from_malloc) {
        large_goes(old);
    }
    UNCOUNTED(block = next->realloc(next->ctx, old, size));
    if (block != NULL && chain->from_malloc) {
        resized(block, less, weight(block));
    }
    else if (block != NULL && frames != NULL) {
        frames->missed |= MISSED_NUMPY; /* how large the old one was, nobody says */
    }
    return block;
}

static void data_free(void *ctx, void *block, size_t size) {
    const chain_t *chain = ctx;
    const PyDataMemAllocator *next = &chain->next->allocator;
    int64_t bytes = block != NULL ? (int64_t)size : 0;
    goes(block, chain->from_malloc ? last_weight(block) : bytes);
    UNCOUNTED(next->free(next->ctx, block, size));
}

static int numpy_state;  /* 0: not loaded yet, 1: at hand, -1: its C API is not */
static int numpy_by_raw; /* whether its own handler uses the raw domain (since 2.5) */

static int default_by_raw(void) {
    const PyDataMem_Handler *handler =
        PyCapsule_GetPointer(PyDataMem_DefaultHandler, CAPSULE);
    slot_t probe = {0, 0}, *mine = slot;
    size_t size = 1 << 16; /* smaller ones may come from a cache */
    slot = &probe;
    void *block = handler->allocator.malloc(handler->allocator.ctx, size);
    slot = mine;
    handler->allocator.free(handler->allocator.ctx, block, size);
    return probe.net > 0;
}

/* Whether NumPy's C API is at hand.  NumPy is never imported for the sake of it, and
 * left alone while another thread is still importing it. */
static int numpy_ready(void) {
    if (numpy_state == 0) {
        PyObject *name = PyUnicode_InternFromString("numpy");
        PyObject *numpy = name != NULL ? PyImport_GetModule(name) : NULL;
        if (numpy != NULL && PyObject_HasAttrString(numpy, "ndarray")) {
            numpy_state = _import_array() == 0 ? 1 : -1;
            numpy_by_raw = numpy_state > 0 && default_by_raw();
        }
        Py_XDECREF(numpy);
        Py_XDECREF(name);
        PyErr_Clear();
    }
    return numpy_state > 0;
}

static void drop_chain(PyObject *capsule) {
    chain_t *chain = PyCapsule_GetPointer(capsule, CAPSULE);
    Py_DECREF(chain->next_capsule);
    free(chain);
}

/* Give a capsule (a new reference) whose handler counts and calls `current`'s. */
static PyObject *chain_to(PyObject *current) {
    static PyObject *to_default; /* what most contexts need, made once */
    int is_default = current == PyDataMem_DefaultHandler;
    const PyDataMem_Handler *next = PyCapsule_GetPointer(current, CAPSULE);
    if (is_default && to_default != NULL) {
        return Py_NewRef(to_default);
    }
    if (next != NULL && next->allocator.malloc == data_malloc) {
        return Py_NewRef(current); /* a task within a task, or a copied context */
    }
    chain_t *chain = next != NULL ? calloc(1, sizeof *chain) : NULL;
    if (chain == NULL) {
        return NULL;
    }
    *chain = (chain_t){
        {"memdash", 1, {chain, data_malloc, data_calloc, data_realloc, data_free}},
        next, Py_NewRef(current), is_default};
    PyObject *capsule = PyCapsule_New(chain, CAPSULE, drop_chain);
    if (capsule == NULL) {
        Py_DECREF(current);
        free(chain);
    }
    else if (is_default) {
        to_default = Py_NewRef(capsule);
    }
    return capsule;
}

/* Set a handler of ours in the current context, and note it in the frame. */
static void set_handler(frame_t *frame) {
    PyObject *before = numpy_ready() ? PyDataMem_GetHandler() : NULL;
    if (before != NULL && !(numpy_by_raw && before == PyDataMem_DefaultHandler)) {
        PyObject *ours = chain_to(before);
        PyObject *old = ours != NULL ? PyDataMem_SetHandler(ours) : NULL;
        if (old != NULL) {
            frame->handler = Py_NewRef(ours);
            frame->before = Py_NewRef(before);
        }
        Py_XDECREF(old);
        Py_XDECREF(ours);
    }
    Py_XDECREF(before);
    PyErr_Clear();
}

/* Put the former handler back, unless the task has set one of its own meanwhile. */
static void restore_handler(frame_t *frame) {
    PyObject *now = numpy_ready() ? PyDataMem_GetHandler() : NULL;
    PyObject *seen = frame->handler;
    if (seen == NULL && numpy_by_raw) {
        seen = PyDataMem_DefaultHandler;
    }
    if (now != NULL && now == seen && frame->before != NULL) {
        Py_XDECREF(PyDataMem_SetHandler(frame->before));
    }
    else if (now != seen || numpy_state < 0) { /* replaced, new, or out of reach */
        frame->missed |= MISSED_NUMPY;
    }
    Py_XDECREF(now);
    Py_XDECREF(frame->handler);
    Py_XDECREF(frame->before);
    PyErr_Clear();
}

/* ---- mappings, begin and end --------------------------------------------------- */

/* Memory that slots are in.  Never unmapped: a thread may be writing into it. */
typedef struct {
    char *base;
    Py_ssize_t size;
    unsigned epoch; /* a forked child has no business in its parent's recorder */
} mapping_t;

#define NO_ARGUMENTS PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)

static const char *const MAPPING = "dask_memdash.measure._tally.mapping";

static PyObject *tally_map_slots(PyObject *Py_UNUSED(module), PyObject *args) {
    int fd;
    Py_ssize_t size;
    struct stat status;
    if (!PyArg_ParseTuple(args, "in:map_slots", &fd, &size)) {
        return NULL;
    }
    if (size < (Py_ssize_t)sizeof(slot_t)) {
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
                      fd >= 0 ? MAP_SHARED : MAP_SHARED | MAP_ANON, fd, 0);
    if (base == MAP_FAILED) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    mapping_t *mapping = malloc(sizeof *mapping);
    if (mapping == NULL) {
        munmap(base, (size_t)size);
        return PyErr_NoMemory();
    }
    *mapping = (mapping_t){base, size, epoch};
    return Py_BuildValue("NN", PyCapsule_New(mapping, MAPPING, NULL),
                         PyMemoryView_FromMemory(base, size, PyBUF_WRITE));
}

static PyObject *tally_begin(PyObject *Py_UNUSED(module), PyObject *const *args,
                             Py_ssize_t n) {
    if (n != 2) {
        PyErr_SetString(PyExc_TypeError, "begin() takes a mapping and an offset");
        return NULL;
    }
    const mapping_t *mapping = PyCapsule_GetPointer(args[0], MAPPING);
    Py_ssize_t offset = mapping != NULL ? PyLong_AsSsize_t(args[1]) : -1;
    if (offset == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (offset < 0 || offset % 8 != 0 ||
        offset > mapping->size - (Py_ssize_t)sizeof(slot_t)) {
        PyErr_Format(PyExc_ValueError, "there is no slot at %zd of %zd bytes", offset,
                     mapping->size);
        return NULL;
    }
    if (!armed || mapping->epoch != epoch) {
        Py_RETURN_FALSE;
    }
    /* The frame's own memory tells whether the raw domain still reaches us. */
    slot_t probe = {0, 0}, *outer = slot;
    slot = &probe;
    frame_t *frame = PyMem_RawMalloc(sizeof *frame);
    slot = outer;
    if (frame == NULL) {
        Py_RETURN_FALSE;
    }
    *frame = (frame_t){.outer = frames, .outer_slot = outer, .outer_place = place,
                       .hooked = hooked};
    frame->missed = probe.net == 0 ? MISSED_PYTHON : 0;
    set_handler(frame);
    frames = frame;
    slot = (slot_t *)(mapping->base + offset);
    place = NULL;
    if (lines != NULL && offset + LINE_OFFSET + LINE_SIZE <= mapping->size) {
        place = mapping->base + offset + LINE_OFFSET;
        lines->forget(place);
    }
    __atomic_store_n(&slot->net, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&slot->peak, 0, __ATOMIC_RELAXED);
    Py_RETURN_TRUE;
}

static PyObject *tally_end(NO_ARGUMENTS) {
    frame_t *frame = frames;
    if (frame == NULL) {
        return PyLong_FromLong(MISSED_TASK);
    }
    slot_t probe = {0, 0}, *outer = frame->outer_slot;
    slot = NULL;
    place = frame->outer_place;
    frames = frame->outer;
    restore_handler(frame);
    long missed = frame->missed | (frame->hooked != hooked ? MISSED_PYTHON : 0);
    slot = &probe;
    PyMem_RawFree(frame);
    slot = outer;
    return PyLong_FromLong(missed | (probe.net == 0 ? MISSED_PYTHON : 0));
}

/* ---- install and uninstall ----------------------------------------------------- */

/* A forked child inherits the hooks and its parent's mapping: it counts nothing until
 * it installs and maps for itself.  Other threads' variables are gone with them. */
static void in_child(void) {
    slot = NULL;
    place = NULL;
    frames = NULL;
    armed = 0;
    epoch++;
}

static void hook_domains(void) {
    PyMemAllocatorEx now, own = own_allocator();
    for (int i = 0; i < N_DOMAINS; i++) {
        /* Under PYTHONMALLOC=malloc all three are the same functions, and none calls
         * another.  With pymalloc only the raw one is, and serves the other two. */
        PyMem_GetAllocator(DOMAINS[i], &now);
        if (same(&now, raw_next)) {
            PyMem_SetAllocator(DOMAINS[i], &own);
        }
    }
}

static PyObject *tally_install(NO_ARGUMENTS) {
    static int at_fork;
    if (!at_fork && pthread_atfork(NULL, NULL, in_child) != 0) {
        return PyUnicode_FromString("no handler for fork could be set");
    }
    at_fork = 1;
    /* Whoever wrapped our hook calls it still: hooking once more would count twice,
     * or go round in circles. */
    if (raw_next == NULL || !raw_reached()) {
        PyMemAllocatorEx now;
        PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &now);
        if (debug_hooks_on(&now)) {
            return PyUnicode_FromString(
                "Python's debug hooks are on (PYTHONMALLOC=debug or -X dev), and under "
                "them nobody can tell the size of a block");
        }
        if (raw_next == NULL || !same(&now, raw_next)) {
            PyMemAllocatorEx *next = malloc(sizeof *next);
            if (next == NULL) {
                return PyErr_NoMemory();
            }
            *next = now;
            __atomic_store_n(&raw_next, next, __ATOMIC_RELEASE);
        }
        hook_domains();
        hooked++;
        if (!raw_reached()) {
            return PyUnicode_FromString("the raw domain does not reach its hook");
        }
    }
    PyObjectArenaAllocator arenas;
    PyObject_GetArenaAllocator(&arenas);
    if (arena_next.alloc == NULL) {
        arena_next = arenas;
    }
    if (arenas.ctx == arena_next.ctx && arenas.alloc == arena_next.alloc &&
        arenas.free == arena_next.free) {
        PyObjectArenaAllocator own = {arena_next.ctx, arena_alloc, arena_free};
        PyObject_SetArenaAllocator(&own);
    }
    if (numpy_state > 0) { /* met while the raw domain was not hooked, perhaps */
        numpy_by_raw = default_by_raw();
    }
    armed = 1;
    Py_RETURN_NONE;
}

static PyObject *tally_uninstall(NO_ARGUMENTS) {
    int all = 1;
    armed = 0;
    for (int i = 0; raw_next != NULL && i < N_DOMAINS; i++) {
        if (domain_ours(DOMAINS[i])) {
            PyMem_SetAllocator(DOMAINS[i], (PyMemAllocatorEx *)raw_next);
        }
    }
    if (raw_next != NULL && raw_reached()) {
        all = 0; /* somebody wrapped it and may put it back: it stays, and counts 0 */
    }
    if (arenas_ours()) {
        PyObject_SetArenaAllocator(&arena_next);
    }
    return PyBool_FromLong(all);
}

static PyObject *tally_hooks(NO_ARGUMENTS) {
    const char *raw = armed ? "lost" : "none", *numpy = "not loaded";
    int set = raw_next != NULL;
    if (set && raw_reached()) {
        raw = domain_ours(PYMEM_DOMAIN_RAW) ? "ours" : "wrapped";
    }
    if (numpy_ready() || numpy_state != 0) {
        numpy = numpy_state < 0 ? "unusable" : numpy_by_raw ? "raw" : "chained";
    }
    return Py_BuildValue(
        "{s:s,s:s,s:s,s:s}", "raw", raw, "arenas",
        arenas_ours() ? "ours" : armed ? "lost" : "none", "objects",
        set && domain_ours(PYMEM_DOMAIN_OBJ) ? "ours" : "none", "numpy", numpy);
}

static PyObject *tally_arenas(NO_ARGUMENTS) {
    return PyLong_FromLongLong(__atomic_load_n(&arena_bytes, __ATOMIC_RELAXED));
}

static PyObject *tally_use_lines(PyObject *Py_UNUSED(module), PyObject *table) {
    const lines_t *to = NULL;
    if (table != Py_None) {
        to = PyCapsule_GetPointer(table, LINES_CAPSULE);
        if (to == NULL) {
            return NULL;
        }
        watched = to->watched; /* for good: blocks may be known on */
    }
    __atomic_store_n(&lines, to, __ATOMIC_RELEASE);
    Py_RETURN_NONE;
}

/* ---- the RSS --------------------------------------------------------------------- */

/* The second number of an open /proc/<pid>/statm, in bytes.  Keeps the GIL: the kernel
 * answers in a microsecond, and a task's thread that lets the GIL go for that may wait
 * some milliseconds until it gets it back. */
static PyObject *tally_rss(PyObject *Py_UNUSED(module), PyObject *number) {
    char text[128];
    long fd = PyLong_AsLong(number);
    if (fd == -1 && PyErr_Occurred()) {
        return NULL;
    }
    ssize_t n = pread((int)fd, text, sizeof text - 1, 0);
    if (n <= 0) {
        Py_RETURN_NONE;
    }
    text[n] = 0;
    const char *second = strchr(text, ' ');
    long pages = second != NULL ? strtol(second, NULL, 10) : 0;
    if (pages <= 0) {
        Py_RETURN_NONE;
    }
    return PyLong_FromLongLong((long long)pages * sysconf(_SC_PAGESIZE));
}

/* ---- the module ---------------------------------------------------------------- */

static PyMethodDef METHODS[] = {
    {"map_slots", tally_map_slots, METH_VARARGS,
     "map_slots(fd, size) -> (mapping, memoryview); anonymous memory if fd is -1."},
    {"begin", (PyCFunction)(void (*)(void))tally_begin, METH_FASTCALL,
     "begin(mapping, offset) -> whether this thread counts into that slot from now."},
    {"end", tally_end, METH_NOARGS,
     "end() -> what the counts since the last begin may lack, a sum of MISSED_*."},
    {"install", tally_install, METH_NOARGS,
     "install() -> None, or why not.  Sets what is not (or no more) set, and arms."},
    {"uninstall", tally_uninstall, METH_NOARGS,
     "uninstall() -> whether no hook is left.  Running tasks count on to their end."},
    {"use_lines", tally_use_lines, METH_O,
     "use_lines(table) -> the lines of large blocks are known from now; None: no more."},
    {"arenas", tally_arenas, METH_NOARGS,
     "arenas() -> by how many bytes arenas have grown since they were hooked."},
    {"rss", tally_rss, METH_O,
     "rss(fd) -> bytes resident, from an open /proc/<pid>/statm; None if that fails."},
    {"hooks", tally_hooks, METH_NOARGS, "hooks() -> the state of each hook."},
    {NULL, NULL, 0, NULL}};

static int execute(PyObject *Py_UNUSED(module)) {
    /* Allocators and the variables above belong to the process, not an interpreter. */
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_ImportError, "it is for the main interpreter only");
        return -1;
    }
    return 0;
}

static PyModuleDef_Slot SLOTS[] = {
    {Py_mod_exec, (void *)execute},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED}, /* hooks use their own thread's variables only */
#endif
    {0, NULL}};

static PyModuleDef MODULE = {PyModuleDef_HEAD_INIT,
                             .m_name = "_tally",
                             .m_doc = "Counts what tasks allocate; see tally.py.",
                             .m_methods = METHODS,
                             .m_slots = SLOTS};

PyMODINIT_FUNC PyInit__tally(void) {
    return PyModuleDef_Init(&MODULE);
}
