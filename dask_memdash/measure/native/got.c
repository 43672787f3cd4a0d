/* Finds the slots through which loaded objects call malloc and its relatives, and
 * points them at our wrappers.
 *
 * What is assumed: ELF with RELA relocations (x86-64, aarch64) and glibc's dynamic
 * linker.  What is checked: that the family comes from one library; that a slot's
 * relocation names the function *and* that the slot holds that library's own address.
 * Slots that hold anything else are another tool's, and left alone.  A slot that is not bound yet points back into its own object, and is taken
 * like a bound one: the linker would look where we did.  Undoing is the same walk the other way round: slots that hold a wrapper of
 * ours get the real address back.  Nothing is remembered of slots, so that a library
 * that is unloaded takes nothing with it that we would write to.
 *
 * Traps:
 * - A Python that is not position-independent has stubs of its own, which dlsym() finds
 *   first, and which call through the very slots that we hook.  Such an answer is not
 *   believed; the C library is asked instead.
 * - Slots mostly lie in pages that the linker has made read-only (RELRO).  Their
 *   protection is read from /proc/self/maps, lifted, and put back as it was.  An object
 *   that another thread is loading right now may be in the list and not be finished: its
 *   pages are still writable, and must stay so.  Hence pages are read between two walks,
 *   and if the list has changed in between, all is done again.
 * - Whoever wraps dlopen() becomes the caller in the linker's eyes, and libraries are no
 *   longer found by the run path of the real caller.  So dlopen() is left alone.  What
 *   comes after it, dlsym(), is wrapped by a jump that leaves no trace on the stack.
 */
#define _GNU_SOURCE
#include "native.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#define JUMP_SLOT R_X86_64_JUMP_SLOT
#define IS_SLOT(type) \
    ((type) == R_X86_64_JUMP_SLOT || (type) == R_X86_64_GLOB_DAT || (type) == R_X86_64_64)
#elif defined(__aarch64__)
#define JUMP_SLOT R_AARCH64_JUMP_SLOT
#define IS_SLOT(type) \
    ((type) == R_AARCH64_JUMP_SLOT || (type) == R_AARCH64_GLOB_DAT || \
     (type) == R_AARCH64_ABS64)
#else
#error "setup.py does not build this here"
#endif

/* ---- the real functions --------------------------------------------------------- */

HIDDEN void hook_dlsym(void);
HIDDEN __attribute__((used)) void *real_dlsym; /* for the jump */

typedef struct {
    const char *name;
    void *wrapper;
    void **real;
} hook_t;

#define FUNCTION(f) ((void *)(uintptr_t)(f))
#define HOOK(name) {#name, FUNCTION(hook_##name), (void **)(void *)&real.name}

static const hook_t HOOKS[] = {
    HOOK(malloc),        HOOK(calloc),   HOOK(realloc),
    HOOK(free),          HOOK(memalign), HOOK(aligned_alloc),
    HOOK(posix_memalign), HOOK(pthread_create),
    HOOK(dlsym),         HOOK(mmap),     HOOK(mmap64),
};
enum { N_HOOKS = sizeof HOOKS / sizeof *HOOKS, N_FAMILY = 7 };

static const hook_t *hook_named(const char *name) {
    for (int i = 0; i < N_HOOKS; i++) {
        if (strcmp(name, HOOKS[i].name) == 0) {
            return &HOOKS[i];
        }
    }
    return NULL;
}

static char allocator[256]; /* path of the library that the family comes from */

static int main_program(struct dl_phdr_info *info, size_t size, void *base) {
    (void)size;
    *(uintptr_t *)base = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type == PT_LOAD) {
            *(uintptr_t *)base = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
            break;
        }
    }
    return 1; /* the first one is the program */
}

/* The function that most objects' slots for a name hold. */
static void *real_function(const char *name) {
    static const char *const libraries[] = {"libc.so.6", "libpthread.so.0", "libdl.so.2"};
    uintptr_t program;
    Dl_info info;
    void *found = dlsym(RTLD_DEFAULT, name);
    dl_iterate_phdr(main_program, &program);
    if (found != NULL && dladdr(found, &info) != 0 && (uintptr_t)info.dli_fbase != program) {
        return found;
    }
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        void *library = dlopen(libraries[i], RTLD_LAZY | RTLD_NOLOAD);
        found = library != NULL ? dlsym(library, name) : NULL;
        if (library != NULL) {
            dlclose(library);
        }
        if (found != NULL) {
            return found;
        }
    }
    return NULL;
}

/* Find the real functions, once.  Returns why they cannot be used; NULL if they can. */
HIDDEN const char *got_find(void) {
    Dl_info first, other;
    if (real.dlsym != NULL) {
        return NULL;
    }
    real.usable_size = (size_t (*)(void *))(uintptr_t)real_function("malloc_usable_size");
    for (int i = 0; i < N_HOOKS; i++) {
        *HOOKS[i].real = real_function(HOOKS[i].name);
        if (*HOOKS[i].real == NULL) {
            return "the C library lacks a function of the malloc family";
        }
        if (i < N_FAMILY && dladdr(*HOOKS[i].real, i == 0 ? &first : &other) == 0) {
            return "the C library's functions cannot be told apart";
        }
        if (i > 0 && i < N_FAMILY && first.dli_fbase != other.dli_fbase) {
            return "functions of the malloc family come from several libraries";
        }
    }
    if (real.usable_size == NULL ||
        dladdr(FUNCTION(real.usable_size), &other) == 0 ||
        other.dli_fbase != first.dli_fbase) {
        return "the allocator does not tell the size of its blocks";
    }
    snprintf(allocator, sizeof allocator, "%s", first.dli_fname);
    real_dlsym = FUNCTION(real.dlsym);
    return NULL;
}

HIDDEN const char *got_allocator(void) { return allocator; }

/* ---- walking over loaded objects ------------------------------------------------ */

typedef struct {
    uintptr_t start, end;
    int protection;
} pages_t;

enum { MAX_PAGES = 8192, MAX_SEEN = 8192 };

enum what { HOOK_SLOTS, UNHOOK_SLOTS };

/* One walk over all objects: the first finds the pages that slots to be changed lie in,
 * the second changes those slots, if the objects are still the same. */
typedef struct {
    enum what what;
    int all;     /* whether objects that were looked at before are looked at, too */
    int writes;  /* whether it is the second walk */
    int n_pages; /* found, or to be written to */
    int changed, stale;
    unsigned long long adds, subs; /* how many objects have come and gone, ever */
    double time;
} walk_t;

static pages_t pages[MAX_PAGES];
static pthread_mutex_t look_lock = PTHREAD_MUTEX_INITIALIZER;
static int slots_hooked; /* since the wrappers are in, as many as were found */
static int wrapping;     /* whether they are */

/* Objects that were looked at, by where they are; forgotten whenever one is unloaded. */
static struct {
    uintptr_t key;
    double time; /* of the first look */
    int settled; /* whether a look since was late enough */
} seen[MAX_SEEN];
static int n_seen;

HIDDEN int arrow_came; /* whether libarrow is loaded */

static unsigned long long looked_adds, looked_subs;
static double unsettled_until, next_look;

/* An object that another thread is loading may be in the list before its slots are
 * bound: it is looked at again until so many seconds after it was first seen, and once
 * after that. */
static const double SETTLES = 0.5;

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Whether an object need not be looked at again; notes it down. */
static int settled(uintptr_t key, double now) {
    size_t place = (key >> 4) * UINT64_C(0x9E3779B97F4A7C15) % MAX_SEEN;
    while (seen[place].key != 0 && seen[place].key != key) {
        place = (place + 1) % MAX_SEEN;
    }
    if (seen[place].key == 0) {
        if (n_seen == MAX_SEEN / 2) {
            return 0;
        }
        n_seen++;
        seen[place].key = key;
        seen[place].time = now;
        seen[place].settled = 0;
    }
    int was_settled = seen[place].settled;
    double settles = seen[place].time + SETTLES;
    if (now > settles) {
        seen[place].settled = 1;
    }
    else if (settles > unsettled_until) {
        unsettled_until = settles;
    }
    return was_settled;
}

static pages_t *page_of(walk_t *walk, uintptr_t address) {
    int low = 0, high = walk->n_pages;
    while (low < high) {
        int middle = (low + high) / 2;
        if (address < pages[middle].start) {
            high = middle;
        }
        else if (address >= pages[middle].end) {
            low = middle + 1;
        }
        else {
            return &pages[middle];
        }
    }
    return NULL;
}

static void write_slot(walk_t *walk, void **slot, void *value) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    void *start = (void *)((uintptr_t)slot & ~(page - 1));
    pages_t *found = page_of(walk, (uintptr_t)slot);
    if (found == NULL || !(found->protection & PROT_READ)) {
        return;
    }
    /* Writable as it was read, it may have been protected since. */
    if (mprotect(start, page, found->protection | PROT_WRITE) != 0) {
        return;
    }
    __atomic_store_n(slot, value, __ATOMIC_RELEASE);
    if (!(found->protection & PROT_WRITE)) {
        mprotect(start, page, found->protection);
    }
    walk->changed++;
}

typedef struct {
    uintptr_t base;
    const ElfW(Sym) *symbols;
    const char *strings;
    uintptr_t start, end; /* of the object in memory */
} object_t;

/* What a slot is to hold instead; NULL: what it holds.  Most slots have nothing to do
 * with us, and that is found out without a look at names. */
static void *replacement(const walk_t *walk, const object_t *object,
                         const ElfW(Rela) *entry, void *value) {
    const ElfW(Sym) *symbol = &object->symbols[ELF64_R_SYM(entry->r_info)];
    const hook_t *hook = NULL;
    for (int i = 0; i < N_HOOKS && hook == NULL; i++) {
        if (value == (walk->what == HOOK_SLOTS ? *HOOKS[i].real : HOOKS[i].wrapper)) {
            hook = hook_named(object->strings + symbol->st_name);
        }
    }
    if (walk->what == HOOK_SLOTS && hook == NULL && symbol->st_shndx == SHN_UNDEF &&
        ELF64_R_TYPE(entry->r_info) == JUMP_SLOT && (uintptr_t)value >= object->start &&
        (uintptr_t)value < object->end) { /* not bound yet */
        hook = hook_named(object->strings + symbol->st_name);
    }
    if (hook == NULL) {
        return NULL;
    }
    return walk->what == HOOK_SLOTS ? hook->wrapper : *hook->real;
}

static void look_at_relocations(walk_t *walk, const object_t *object,
                                const ElfW(Rela) *table, size_t size) {
    for (size_t i = 0; i < size / sizeof *table; i++) {
        const ElfW(Rela) *entry = &table[i];
        uintptr_t place = object->base + entry->r_offset;
        if (!IS_SLOT(ELF64_R_TYPE(entry->r_info)) || entry->r_addend != 0 ||
            place % sizeof(void *) != 0 || place < object->start || place >= object->end) {
            continue;
        }
        void **slot = (void **)place;
        void *value = __atomic_load_n(slot, __ATOMIC_RELAXED);
        void *instead = replacement(walk, object, entry, value);
        if (instead == NULL) {
            continue;
        }
        if (walk->writes) {
            write_slot(walk, slot, instead);
            continue;
        }
        uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
        uintptr_t start = place & ~(page - 1);
        if (walk->n_pages > 0 && pages[walk->n_pages - 1].start == start) {
            continue;
        }
        if (walk->n_pages == MAX_PAGES) {
            walk->stale = 1; /* the rest is for another round */
            return;
        }
        pages[walk->n_pages++] = (pages_t){start, start + page, 0};
    }
}

static int look_at_object(struct dl_phdr_info *info, size_t size, void *given) {
    walk_t *walk = given;
    const ElfW(Dyn) *dynamic = NULL;
    object_t object = {.base = info->dlpi_addr, .start = UINTPTR_MAX};
    if (size < offsetof(struct dl_phdr_info, dlpi_subs) + sizeof info->dlpi_subs) {
        return 1;
    }
    if (walk->writes && (info->dlpi_adds != walk->adds || info->dlpi_subs != walk->subs)) {
        walk->stale = 1;
        return 1;
    }
    walk->adds = info->dlpi_adds;
    walk->subs = info->dlpi_subs;
    if (walk->subs != looked_subs) { /* what was looked at may have gone */
        memset(seen, 0, sizeof seen);
        n_seen = 0;
        looked_subs = walk->subs;
    }
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + header->p_vaddr;
        if (header->p_type == PT_DYNAMIC) {
            dynamic = (const ElfW(Dyn) *)start;
        }
        else if (header->p_type == PT_LOAD) {
            object.start = start < object.start ? start : object.start;
            object.end = start + header->p_memsz > object.end ? start + header->p_memsz
                                                              : object.end;
        }
    }
    uintptr_t here = (uintptr_t)FUNCTION(look_at_object);
    const char *name = strrchr(info->dlpi_name, '/');
    if (name != NULL && !arrow_came && strncmp(name, "/libarrow.so", 12) == 0) {
        __atomic_store_n(&arrow_came, 1, __ATOMIC_RELAXED);
    }
    if (dynamic == NULL || (here >= object.start && here < object.end)) {
        return 0; /* without slots, or this extension */
    }
    if (settled((uintptr_t)info->dlpi_phdr, walk->time) && !walk->all) {
        return 0;
    }
    uintptr_t jumps = 0, others = 0;
    size_t jumps_size = 0, others_size = 0, jumps_type = 0;
    for (; dynamic->d_tag != DT_NULL; dynamic++) {
        /* Addresses, which the linker has made absolute where it could write. */
        uintptr_t address = dynamic->d_un.d_ptr;
        address = address < object.start ? address + object.base : address;
        switch (dynamic->d_tag) {
        case DT_SYMTAB: object.symbols = (const ElfW(Sym) *)address; break;
        case DT_STRTAB: object.strings = (const char *)address; break;
        case DT_JMPREL: jumps = address; break;
        case DT_RELA: others = address; break;
        case DT_PLTRELSZ: jumps_size = dynamic->d_un.d_val; break;
        case DT_RELASZ: others_size = dynamic->d_un.d_val; break;
        case DT_PLTREL: jumps_type = dynamic->d_un.d_val; break;
        default: break;
        }
    }
    if (object.symbols == NULL || object.strings == NULL) {
        return 0;
    }
    if (jumps != 0 && jumps_type == DT_RELA) {
        look_at_relocations(walk, &object, (const ElfW(Rela) *)jumps, jumps_size);
    }
    if (others != 0) {
        look_at_relocations(walk, &object, (const ElfW(Rela) *)others, others_size);
    }
    return 0;
}

static int compare_pages(const pages_t *a, const pages_t *b) {
    return a->start < b->start ? -1 : a->start > b->start;
}

/* Sort pages (a heap sort: qsort() may allocate) and leave out what is twice there. */
static int sort_pages(int n) {
    for (int root = n / 2, end = n; end > 1;) {
        if (root > 0) {
            root--;
        }
        else {
            pages_t swapped = pages[--end];
            pages[end] = pages[0];
            pages[0] = swapped;
        }
        for (int at = root, child; (child = 2 * at + 1) < end; at = child) {
            child += child + 1 < end && compare_pages(&pages[child], &pages[child + 1]) < 0;
            if (compare_pages(&pages[at], &pages[child]) >= 0) {
                break;
            }
            pages_t swapped = pages[at];
            pages[at] = pages[child];
            pages[child] = swapped;
        }
    }
    int kept = 0;
    for (int i = 0; i < n; i++) {
        if (kept == 0 || pages[i].start != pages[kept - 1].start) {
            pages[kept++] = pages[i];
        }
    }
    return kept;
}

/* Note the protection of the pages, from one line of /proc/self/maps. */
static void read_line(const char *line, int n, int *next) {
    char *rest;
    uintptr_t start = strtoul(line, &rest, 16);
    uintptr_t end = *rest == '-' ? strtoul(rest + 1, &rest, 16) : 0;
    for (; *next < n && pages[*next].start < end && strlen(rest) > 4; (*next)++) {
        if (pages[*next].start >= start) {
            pages[*next].protection = (rest[1] == 'r' ? PROT_READ : 0) |
                                      (rest[2] == 'w' ? PROT_WRITE : 0) |
                                      (rest[3] == 'x' ? PROT_EXEC : 0);
        }
    }
}

static int read_protections(int n) {
    static char text[1 << 16];
    int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC), next = 0;
    size_t kept = 0;
    if (file < 0) {
        return 0;
    }
    for (;;) {
        ssize_t more = read(file, text + kept, sizeof text - 1 - kept);
        if (more < 0 && errno == EINTR) {
            continue;
        }
        if (more <= 0) {
            break;
        }
        text[kept + (size_t)more] = 0;
        char *line = text;
        for (char *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
            *end = 0;
            read_line(line, n, &next);
        }
        kept = strlen(line);
        memmove(text, line, kept + 1);
    }
    close(file);
    return 1;
}

/* Change all slots that are to be changed; with look_lock held. */
static void change(enum what what, int all) {
    double now = seconds();
    for (int tries = 0, stale = 1; stale && tries < 10; tries++) {
        walk_t walk = {.what = what, .all = all, .time = now};
        dl_iterate_phdr(look_at_object, &walk);
        looked_adds = walk.adds;
        stale = walk.stale;
        if (walk.n_pages == 0) {
            break;
        }
        walk.n_pages = sort_pages(walk.n_pages);
        if (!read_protections(walk.n_pages)) {
            break;
        }
        walk.writes = walk.all = 1;
        walk.stale = 0;
        dl_iterate_phdr(look_at_object, &walk);
        stale |= walk.stale;
        slots_hooked += walk.changed;
    }
    next_look = now + 0.05;
    if (now > unsettled_until) {
        unsettled_until = 0;
    }
}

/* ---- dlsym ---------------------------------------------------------------------- */

/* Called by the jump below: whatever has been loaded since the last look is hooked
 * before anybody can call into it.  Returns the wrapper where a function of the family
 * is asked for, as ctypes does, which calls what it gets through no slot; else NULL. */
HIDDEN __attribute__((used)) void *before_dlsym(void *library, const char *name) {
    int error = errno;
    void *instead = NULL;
    if (got_changed()) {
        got_look(0);
    }
    if (wrapping && library != RTLD_NEXT && name != NULL) {
        const hook_t *hook = hook_named(name);
        if (hook != NULL && real.dlsym(library, name) == *hook->real) {
            instead = hook->wrapper;
        }
    }
    errno = error;
    return instead;
}

#if defined(__x86_64__)
__asm__(".pushsection .text\n"
        ".hidden hook_dlsym\n"
        ".globl hook_dlsym\n"
        ".type hook_dlsym, @function\n"
        "hook_dlsym:\n"
        "  .cfi_startproc\n"
        "  endbr64\n"
        "  pushq %rdi\n"
        "  .cfi_adjust_cfa_offset 8\n"
        "  pushq %rsi\n"
        "  .cfi_adjust_cfa_offset 8\n"
        "  subq $8, %rsp\n"
        "  .cfi_adjust_cfa_offset 8\n"
        "  call before_dlsym\n"
        "  addq $8, %rsp\n"
        "  .cfi_adjust_cfa_offset -8\n"
        "  popq %rsi\n"
        "  .cfi_adjust_cfa_offset -8\n"
        "  popq %rdi\n"
        "  .cfi_adjust_cfa_offset -8\n"
        "  testq %rax, %rax\n"
        "  jnz 1f\n"
        "  jmp *real_dlsym(%rip)\n"
        "1: ret\n"
        "  .cfi_endproc\n"
        ".size hook_dlsym, . - hook_dlsym\n"
        ".popsection\n");
#elif defined(__aarch64__)
__asm__(".pushsection .text\n"
        ".hidden hook_dlsym\n"
        ".globl hook_dlsym\n"
        ".type hook_dlsym, %function\n"
        "hook_dlsym:\n"
        "  .cfi_startproc\n"
        "  stp x29, x30, [sp, -32]!\n"
        "  .cfi_adjust_cfa_offset 32\n"
        "  stp x0, x1, [sp, 16]\n"
        "  bl before_dlsym\n"
        "  mov x16, x0\n"
        "  ldp x0, x1, [sp, 16]\n"
        "  ldp x29, x30, [sp], 32\n"
        "  .cfi_adjust_cfa_offset -32\n"
        "  cbnz x16, 1f\n"
        "  adrp x16, real_dlsym\n"
        "  ldr x16, [x16, :lo12:real_dlsym]\n"
        "  br x16\n"
        "1: mov x0, x16\n"
        "  ret\n"
        "  .cfi_endproc\n"
        ".size hook_dlsym, . - hook_dlsym\n"
        ".popsection\n");
#endif

/* ---- for the other parts -------------------------------------------------------- */

static int read_adds(struct dl_phdr_info *info, size_t size, void *adds) {
    (void)size;
    *(unsigned long long *)adds = info->dlpi_adds;
    return 1;
}

/* Whether objects have been loaded since the last look, or may just be. */
HIDDEN int got_changed(void) {
    unsigned long long adds = looked_adds;
    if (!__atomic_load_n(&wrapping, __ATOMIC_RELAXED)) {
        return 0;
    }
    dl_iterate_phdr(read_adds, &adds);
    return adds != looked_adds || (unsettled_until != 0 && seconds() >= next_look);
}

/* Point slots at the wrappers: of objects that have come, or of `all`.  Returns how many
 * slots were; -1 if somebody else is at it. */
HIDDEN int got_look(int all) {
    if (pthread_mutex_trylock(&look_lock) != 0) {
        return -1;
    }
    int before = slots_hooked;
    if (wrapping) {
        change(HOOK_SLOTS, all);
    }
    int more = slots_hooked - before;
    pthread_mutex_unlock(&look_lock);
    return more;
}

/* Let the next look set the wrappers. */
HIDDEN void got_arm(void) {
    pthread_mutex_lock(&look_lock);
    wrapping = 1;
    pthread_mutex_unlock(&look_lock);
}

/* Give all slots that hold a wrapper the real function back. */
HIDDEN void got_restore(void) {
    pthread_mutex_lock(&look_lock);
    wrapping = 0;
    change(UNHOOK_SLOTS, 1);
    slots_hooked = 0;
    pthread_mutex_unlock(&look_lock);
}

HIDDEN int got_slots(void) { return slots_hooked; }

/* A look that the parent had under way is not finished; what it has set stays set. */
HIDDEN void got_in_child(void) { pthread_mutex_init(&look_lock, NULL); }
