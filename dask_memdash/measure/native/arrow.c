/* Arrow's default memory pool, whose allocators (mimalloc, jemalloc) call no malloc.
 *
 * The pool is a C++ object that everybody reaches through a pointer to it, so its first
 * word, the pointer to the table of its virtual functions, is replaced: by a copy of
 * the table in which Allocate, Reallocate and Free are ours.  They call the former ones
 * and count.  Undone by putting the former table back; copies are never freed.
 *
 * What is assumed of the C++ side: the Itanium ABI on x86-64, where a Status comes back
 * through a hidden first argument and is one word, which is 0 where all went well; and
 * the signatures of these three functions, which have been the same since Arrow 13.
 * Hence the list of versions that were tried, which is native_tally.py's.  What is
 * checked: where the three stand in a table, by finding the addresses of a public pool's
 * own functions (ProxyMemoryPool) in that pool's table, both by their mangled names.
 *
 * The wrappers run in any thread, with or without the GIL; attaching and detaching is
 * kept apart by the GIL.
 */
#define _GNU_SOURCE
#include "native.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <string.h>

#if defined(__x86_64__)

typedef void *(*allocate_t)(void *status, void *pool, int64_t size, int64_t alignment,
                            uint8_t **out);
typedef void *(*reallocate_t)(void *status, void *pool, int64_t before, int64_t size,
                              int64_t alignment, uint8_t **block);
typedef void (*free_t)(void *pool, uint8_t *block, int64_t size, int64_t alignment);

static swap_t swapped;
static allocate_t former_allocate;
static reallocate_t former_reallocate;
static free_t former_free;

/* What a block weighs: allocators give aligned blocks out in such steps. */
static size_t weight(int64_t size, int64_t alignment) {
    int64_t step = alignment > 0 ? alignment : 1;
    return size > 0 ? (size_t)((size + step - 1) / step * step) : 0;
}

/* No allocator has so much: the pool itself says that it is out of memory. */
#define IMPOSSIBLE (INT64_MAX - ((int64_t)1 << 20))

static void *hook_allocate(void *status, void *pool, int64_t size, int64_t alignment,
                           uint8_t **out) {
    if (unlikely(size > 0 && brake_refuses((size_t)size))) {
        size = IMPOSSIBLE;
    }
    void *result = former_allocate(status, pool, size, alignment, out);
    if (me.now.task != NULL && size > 0 && *(void **)status == NULL) {
        block_came(*out, weight(size, alignment));
    }
    return result;
}

/* The pool copies what is in a block that moves. */
static void *hook_reallocate(void *status, void *pool, int64_t before, int64_t size,
                             int64_t alignment, uint8_t **block) {
    if (!anybody_counts()) {
        return former_reallocate(status, pool, before, size, alignment, block);
    }
    int64_t wanted = size;
    if (unlikely(size > before && brake_refuses((size_t)(size - before)))) {
        wanted = IMPOSSIBLE;
    }
    uint8_t *old = *block;
    moved_t moved = {.owner = me.now};
    size_t weighed = weight(before, alignment);
    if (weighed >= OWNED) {
        owned_moves(&moved, old, weighed, weight(size, alignment), 1);
    }
    else if (me.now.task != NULL) {
        moved.prefix = moved.before = weighed;
        small_moves(old, weighed);
    }
    void *result = former_reallocate(status, pool, before, wanted, alignment, block);
    size_t after = *(void **)status == NULL ? weight(size, alignment) : weighed;
    owned_moved(&moved, after > 0 ? *block : NULL, after, *block != old);
    return result;
}

static void hook_release(void *pool, uint8_t *block, int64_t size, int64_t alignment) {
    if (size > 0 && anybody_counts()) {
        block_goes(block, weight(size, alignment));
    }
    former_free(pool, block, size, alignment);
}

/* ---- tables of virtual functions ------------------------------------------------- */

/* Find the table of a class by its mangled name, and how many functions it has. */
HIDDEN void **table_of(void *library, const char *name, size_t *n) {
    const ElfW(Sym) *symbol = NULL;
    Dl_info info;
    void **table = dlsym(library, name);
    if (table == NULL || dladdr1(table, &info, (void **)&symbol, RTLD_DL_SYMENT) == 0 ||
        symbol == NULL) {
        return NULL;
    }
    *n = symbol->st_size / sizeof(void *);
    if (*n <= AHEAD || *n > AHEAD + FUNCTIONS) {
        return NULL;
    }
    *n -= AHEAD;
    return table + AHEAD;
}

/* Where a function of a class stands in the class's table; -1 if it cannot be told. */
HIDDEN int index_of(void *library, void **functions, size_t n, const char *name) {
    void *function = dlsym(library, name);
    int found = -1;
    for (size_t i = 0; function != NULL && i < n; i++) {
        if (functions[i] == function) {
            if (found >= 0) {
                return -1;
            }
            found = (int)i;
        }
    }
    return found;
}

/* Copy the table of an object, so that functions of the copy can be replaced.  Returns
 * whether that could be: not if the object is another one than last time. */
HIDDEN int swap_prepare(swap_t *swap, void *object, size_t n) {
    void **now = object != NULL ? *(void ***)object : NULL;
    if (now == NULL || now == swap->table + AHEAD ||
        (swap->former != NULL && (swap->former != now || swap->object != object))) {
        return 0;
    }
    memcpy(swap->table, now - AHEAD, (AHEAD + n) * sizeof *swap->table);
    swap->former = now;
    swap->object = object;
    return 1;
}

HIDDEN void swap_set(swap_t *swap) {
    __atomic_store_n(swap->object, (void *)(swap->table + AHEAD), __ATOMIC_RELEASE);
}

HIDDEN int swap_is_set(const swap_t *swap) {
    return swap->object != NULL &&
           __atomic_load_n(swap->object, __ATOMIC_ACQUIRE) == swap->table + AHEAD;
}

HIDDEN void swap_undo(swap_t *swap) {
    if (swap_is_set(swap)) {
        __atomic_store_n(swap->object, (void *)swap->former, __ATOMIC_RELEASE);
    }
}

/* ---- its own code ------------------------------------------------------------------ */

static int around(struct dl_phdr_info *info, size_t size, void *address) {
    (void)size;
    uintptr_t from = UINTPTR_MAX, to = 0, wanted = *(uintptr_t *)address;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type == PT_LOAD) {
            uintptr_t begin = info->dlpi_addr + part->p_vaddr;
            from = begin < from ? begin : from;
            to = begin + part->p_memsz > to ? begin + part->p_memsz : to;
        }
    }
    if (wanted < from || wanted >= to) {
        return 0;
    }
    counted_from = from;
    counted_to = to;
    return 1;
}

/* ---- attach and detach ------------------------------------------------------------ */

static const char *attach(void *library) {
    size_t n = 0;
    void **functions = table_of(library, "_ZTVN5arrow15ProxyMemoryPoolE", &n);
    void *(*pool)(void) =
        (void *(*)(void))(uintptr_t)dlsym(library, "_ZN5arrow19default_memory_poolEv");
    if (functions == NULL || pool == NULL) {
        return "its library does not export what is looked for";
    }
    int allocate =
        index_of(library, functions, n, "_ZN5arrow15ProxyMemoryPool8AllocateEllPPh");
    int reallocate =
        index_of(library, functions, n, "_ZN5arrow15ProxyMemoryPool10ReallocateElllPPh");
    int release =
        index_of(library, functions, n, "_ZN5arrow15ProxyMemoryPool4FreeEPhll");
    if (allocate < 0 || reallocate < 0 || release < 0) {
        return "its functions are not where they were when this was written";
    }
    if (!swap_prepare(&swapped, pool(), n)) {
        return "its pool is not the one that it was";
    }
    former_allocate = (allocate_t)(uintptr_t)swapped.former[allocate];
    former_reallocate = (reallocate_t)(uintptr_t)swapped.former[reallocate];
    former_free = (free_t)(uintptr_t)swapped.former[release];
    swapped.table[AHEAD + allocate] = (void *)(uintptr_t)hook_allocate;
    swapped.table[AHEAD + reallocate] = (void *)(uintptr_t)hook_reallocate;
    swapped.table[AHEAD + release] = (void *)(uintptr_t)hook_release;
    swap_set(&swapped);
    uintptr_t code = (uintptr_t)former_allocate;
    dl_iterate_phdr(around, &code);
    const char *reason = jobs_attach(library);
    if (reason != NULL) { /* all or nothing: half a count is taken for a whole one */
        swap_undo(&swapped);
    }
    return reason;
}

/* Count what comes from the default pool of the libarrow at a path, which is loaded, and
 * what its threads do for a task; only the latter if not `pool` (it takes malloc).
 * Returns why that cannot be; NULL if it can. */
HIDDEN const char *arrow_attach(const char *path, int pool) {
    void *library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD); /* kept: it must not go */
    if (library == NULL) {
        return "its library is not loaded from there";
    }
    if (arrow_attached()) {
        return NULL;
    }
    return pool ? attach(library) : jobs_attach(library);
}

HIDDEN int arrow_attached(void) { return swap_is_set(&swapped) || jobs_attached(); }

HIDDEN void arrow_detach(void) {
    jobs_detach();
    swap_undo(&swapped);
}

#else

HIDDEN const char *arrow_attach(const char *path, int pool) {
    (void)path, (void)pool;
    return "its calls are known on x86-64 only";
}

HIDDEN int arrow_attached(void) { return 0; }
HIDDEN void arrow_detach(void) {}

#endif
