"""A counter of allocations that a fresh process preloads: an independent truth.

Every call of the malloc family, and of mmap for memory without a file, is counted at
what the allocator says that it weighs.  The most that is held at one time is an upper
bound of what was held and touched, as the kernel's high-water mark is another: the mark
has the holes of heaps in it, the count what was asked for and never touched.

Nothing of MemDash is in it: the dynamic linker puts it before the C library's own
functions; blocks are nobody's, threads are not told apart, and no page is looked at.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

#: In the environment of a process that counts.
COUNTS = "MEMDASH_BENCHMARK_COUNTS"

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stddef.h>
#include <sys/mman.h>

static long held, most;

static void count(long bytes) {
    long now = __atomic_add_fetch(&held, bytes, __ATOMIC_SEQ_CST);
    long before = __atomic_load_n(&most, __ATOMIC_SEQ_CST);
    while (now > before && !__atomic_compare_exchange_n(&most, &before, now, 0,
                                                        __ATOMIC_SEQ_CST,
                                                        __ATOMIC_SEQ_CST)) {
    }
}

void counter_reset(void) { held = most = 0; }
long counter_most(void) { return most; }

/* glibc's own, by the names under which it exports them to such libraries */
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static void *came(void *block) {
    if (block != NULL) {
        count((long)malloc_usable_size(block));
    }
    return block;
}

void *malloc(size_t size) { return came(__libc_malloc(size)); }
void *calloc(size_t n, size_t size) { return came(__libc_calloc(n, size)); }
void *memalign(size_t to, size_t size) { return came(__libc_memalign(to, size)); }
void *aligned_alloc(size_t to, size_t size) { return came(__libc_memalign(to, size)); }

int posix_memalign(void **block, size_t to, size_t size) {
    *block = came(__libc_memalign(to, size));
    return *block != NULL ? 0 : ENOMEM;
}

void free(void *block) {
    if (block != NULL) {
        count(-(long)malloc_usable_size(block));
    }
    __libc_free(block);
}

void *realloc(void *old, size_t size) {
    long before = old != NULL ? (long)malloc_usable_size(old) : 0;
    void *block = __libc_realloc(old, size);
    if (block != NULL) {
        count((long)malloc_usable_size(block) - before);
    }
    else if (size == 0) {
        count(-before);
    }
    return block;
}

/* What is mapped counts for good: it makes the bound no less of one. */
void *mmap(void *at, size_t size, int protection, int flags, int file, off_t from) {
    static void *(*real)(void *, size_t, int, int, int, off_t);
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "mmap");
    }
    void *block = real(at, size, protection, flags, file, from);
    if (block != MAP_FAILED && (flags & MAP_ANONYMOUS) && (protection & PROT_WRITE)) {
        count((long)size);
    }
    return block;
}
"""


@functools.cache
def counter() -> Path | None:
    """Build it, once in a process; None without a compiler or another C library."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix="memdash-counter-"))
    source, library = folder / "counter.c", folder / "counter.so"
    source.write_text(SOURCE, encoding="utf-8")
    made = subprocess.run(
        [compiler, "-O2", "-shared", "-fPIC", "-o", library, source],
        capture_output=True,
        check=False,
    )
    return library if made.returncode == 0 else None
