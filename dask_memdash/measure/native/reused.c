/* Large blocks that come with pages in them: an allocator had kept them.
 *
 * What is resident of a block tells what was touched of it only if it came without
 * pages, straight from the kernel.  glibc takes large blocks from its heap where there
 * is room, and Arrow's pool uses its own again.  Of such a block counts what is resident
 * and was written to: the rest costs nothing.
 *
 * Whether it was written to is seen by words at SAMPLES places: marked when the block
 * comes, before its owner has it, and read when it goes, or its task ends.  A mark that
 * is still there stands for its share of the pages; between a mark that is there and its
 * neighbour that is not, as much is in doubt.  What a new block has in it is
 * nobody's (the C library's M_PERTURB fills all of it); what was kept of a block that
 * grew, or was set to 0, is left alone.
 *
 * In doubt, too, is what was unwritten of a block that grew where it was; and what was
 * never touched of blocks of OWNED bytes and more that count in full, as they are too
 * many to be looked at all the time.
 *
 * Doubt is about the peak: it is summed over the blocks that were there at the time of
 * the task's highest count, and becomes the error of the peak at the task's end.
 *
 * All but reused_pages() with table_lock held.
 */
#define _GNU_SOURCE
#include "native.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

/* Where fewer bytes come with a block, they are not worth a look. */
enum { LEAST = 256 << 10, PAGES = 1024 };

static samples_t *unused_samples;

static size_t page_of(size_t i, const samples_t *samples) {
    return samples->pages * (2 * i + 1) / (2 * SAMPLES);
}

static uintptr_t place_of(size_t i, const samples_t *samples) {
    /* not at the same place in each page: what is written in rows may leave gaps */
    return samples->from + page_of(i, samples) * samples->page + 64 * i % samples->page / 8 * 8;
}

/* How many bytes from `from` on came with the block, up to the first page that did not.
 * What has no page after the first two is new from the kernel, but for the allocator's
 * own head. */
HIDDEN size_t reused_pages(uintptr_t address, size_t from, size_t size) {
    unsigned char vector[PAGES];
    int error = errno;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = 0;
    uintptr_t at = (address + from + page - 1) & ~(page - 1);
    uintptr_t end = (address + size) & ~(page - 1);
    while (at < end) {
        size_t pages = (end - at) / page < PAGES ? (end - at) / page : PAGES;
        if (mincore((void *)at, pages * page, vector) != 0) {
            break;
        }
        size_t n = 0;
        while (n < pages && (vector[n] & 1)) {
            n++;
        }
        bytes += n * page;
        at += n * page;
        if (n < pages) {
            break;
        }
    }
    errno = error;
    return bytes >= LEAST ? bytes : 0;
}

/* A word that nobody else will write there. */
static uint64_t mark_of(uintptr_t place) {
    static uint64_t marks;
    uint64_t mixed = (place ^ ++marks << 48) * UINT64_C(0x9E3779B97F4A7C15);
    return mixed ^ mixed >> 31;
}

/* Mark a block that came with pages; without memory for that all of it is in doubt. */
HIDDEN void reused_came(block_t *block, size_t from, size_t bytes) {
    samples_t *samples = unused_samples;
    block->reused = bytes;
    if (samples == NULL) {
        enum { CHUNK = 1 << 16 };
        samples_t *chunk = for_good(CHUNK);
        for (size_t i = 0; chunk != NULL && i < CHUNK / sizeof *chunk; i++) {
            chunk[i].next = unused_samples;
            unused_samples = &chunk[i];
        }
        samples = unused_samples;
    }
    if (samples != NULL) {
        unused_samples = samples->next;
        samples->page = (size_t)sysconf(_SC_PAGESIZE);
        samples->from = (block->address + from + samples->page - 1) & ~(samples->page - 1);
        samples->pages = bytes / samples->page;
        samples->unsure = 0;
        for (size_t i = 0; i < SAMPLES; i++) {
            uintptr_t place = place_of(i, samples);
            *(uint64_t *)place = samples->words[i] = mark_of(place);
        }
    }
    else {
        block->doubt = bytes;
    }
    block->samples = samples;
}

/* How many bytes that came with a block nobody has written to.  Read by the kernel: a
 * part of it may be protected, and is no reason to die. */
static size_t unwritten(const block_t *block) {
    samples_t *samples = block->samples;
    struct iovec here[SAMPLES], there[SAMPLES];
    uint64_t words[SAMPLES];
    int error = errno;
    for (size_t i = 0; i < SAMPLES; i++) {
        here[i] = (struct iovec){&words[i], sizeof words[i]};
        there[i] = (struct iovec){(void *)place_of(i, samples), sizeof words[i]};
    }
    ssize_t read = process_vm_readv(getpid(), here, SAMPLES, there, SAMPLES, 0);
    errno = error;
    size_t marked = 0, changes = 0, known = read > 0 ? (size_t)read / sizeof *words : 0;
    for (size_t i = 0, before = 0; i < SAMPLES; i++) {
        size_t now = i < known && words[i] == samples->words[i];
        changes += i != 0 && now != before;
        marked += before = now;
    }
    samples->unsure = block->reused / SAMPLES * changes;
    return block->reused / SAMPLES * marked;
}

/* How many bytes of a block are resident and cost nothing, as nobody has written them. */
HIDDEN size_t reused_unwritten(block_t *block) {
    size_t bytes = block->samples != NULL ? unwritten(block) : 0;
    if (block->samples != NULL && bytes == 0) {
        reused_let_go(block); /* all of it was */
    }
    return bytes;
}

/* What of a block may never have been touched, though it counts. */
static size_t doubted(const block_t *block) {
    size_t unsure = block->samples != NULL ? block->samples->unsure : 0;
    if (block->doubt + unsure != 0) {
        return block->doubt + unsure;
    }
    if (block->size < RESIDENT && block->counted == block->size) {
        return block->size - resident_bytes(block->address, block->size);
    }
    return 0;
}

/* A block goes, or becomes smaller by so many bytes, or its task ends: if it was there
 * when the task had most, what is in doubt of it is in doubt of the peak. */
HIDDEN void reused_goes(block_t *block, size_t less) {
    task_t *task = block->owner;
    int64_t peak = __atomic_load_n(&task->counters->peak, __ATOMIC_RELAXED);
    if (peak > block->peak_before) {
        size_t doubt = doubted(block);
        if (task->doubt_of != peak) {
            task->doubt_of = peak;
            task->doubt = 0;
        }
        task->doubt += (int64_t)(doubt < less ? doubt : less);
    }
}

HIDDEN void reused_let_go(block_t *block) {
    if (block->samples != NULL) {
        block->samples->next = unused_samples;
        unused_samples = block->samples;
        block->samples = NULL;
    }
}

/* By how much the peak of a task that ends may be too high. */
HIDDEN int64_t reused_doubt(const task_t *task) {
    return task->doubt_of == task->counters->peak ? task->doubt : 0;
}

HIDDEN void reused_in_child(void) { unused_samples = NULL; }
