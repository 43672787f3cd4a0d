/* Large blocks count what is resident of them, not what was asked for.
 *
 * A block of at least RESIDENT bytes counts nothing when it comes (its pages are mostly
 * untouched) and is looked at by mincore(): when its task's peak may be at hand (before
 * a large block goes, at the task's end) and, so that a reader in another process sees
 * it grow, by a thread of ours.  Such a block is "open" until it is found to be resident
 * from end to end; from then on it counts in full, as nobody but an allocator gives pages
 * of a block back.
 *
 * A process may be killed while a block is being filled.  So blocks that were just made,
 * or were seen to be filled, are looked at every millisecond, from where they were known
 * to be resident up to the first page that is not; and as long as that is so, all of them
 * that is not counted yet stands in the task's slot as what it may hold by now.  A block
 * that whole looks found unchanged for a while is reserved, and taken to be left so.
 *
 * Time: what is resident from the start on is not looked at again, so that filling a
 * block costs one look per page over its life, 1 to 3 % of what filling it takes.  Looks
 * that find nothing are limited to a part of the task's own time, the processor's.
 *
 * What a look finds has come at some time since the look before, and may have been there
 * beside small blocks that have gone meanwhile: the most that the task held since, and
 * what is found, or what could have been had it been looked for, is how high its peak
 * may be (settle() in counters.c).
 *
 * mincore() says of a page that was only read, and shows the kernel's page of zeros,
 * that it is resident.  /proc/self/pagemap tells those apart, as nobody maps them alone;
 * neither are pages that a forked child shares, so mincore() is asked about blocks that
 * were there at a fork.  Both are tried on pages of our own first (zeros_start()).
 *
 * All with table_lock held.
 */
#include "native.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Looks may take this part of the time that the task has run, beside the first ones. */
enum { TASK_SHARE = 16, FREE_NS = 1000000 };

/* The thread looks at whole blocks so often, and these looks may take this part of its
 * time; looks at what is being filled come more often. */
enum { INTERVAL_NS = 10000000, THREAD_SHARE = 50, ROUND_NS = 500000 };
enum { BRIEFLY_NS = 1000000, BRIEFLY_SHARE = 20, BRIEF_NS = 100000 };

/* Whole looks without a change after which a block is no longer about to be filled: one
 * that nobody has touched, and one that somebody has, who may be waiting for a processor. */
enum { STILL_WHOLE = 10, STILL_PART = 50 };

enum { PAGES = 8192, FEW_PAGES = 512 };

static unsigned char vector[PAGES];
static uint64_t entries[PAGES]; /* of the pagemap */
static const uint64_t PRESENT = UINT64_C(1) << 63, MAPPED_ALONE = UINT64_C(1) << 56;
static int pagemap = -1;
static dev_t pagemap_device;
static ino_t pagemap_inode;
static unsigned forked; /* how often this process has forked */
static block_t *open_blocks;
static size_t filled_blocks; /* open ones that are being filled, as far as known */
static pthread_cond_t opened; /* its times are of the monotonic clock */
static int thread_runs, thread_waits; /* the latter: for a block that opens */

HIDDEN int looks_left_out; /* for tests: none but the last at a task's end */

static int64_t read_clock(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t now_ns(void) { return read_clock(CLOCK_MONOTONIC); }

/* Of the processor, in this thread: being sent off it is not the look's doing. */
static int64_t used_ns(void) { return read_clock(CLOCK_THREAD_CPUTIME_ID); }

static size_t page_size(void) {
    static size_t size;
    if (size == 0) {
        size = (size_t)sysconf(_SC_PAGESIZE);
    }
    return size;
}

static int none_of_eight(const unsigned char *pages) {
    uint64_t eight;
    memcpy(&eight, pages, sizeof eight);
    return eight == 0;
}

/* ---- pages of zeros ------------------------------------------------------------- */

static int read_entries(uintptr_t at, size_t pages) {
    size_t bytes = pages * sizeof *entries;
    off_t from = (off_t)(at / page_size() * sizeof *entries);
    return pread(pagemap, entries, bytes, from) == (ssize_t)bytes;
}

/* The host may close files that are not its own, and open others in their place. */
static int pagemap_is_ours(void) {
    struct stat status;
    return pagemap >= 0 && fstat(pagemap, &status) == 0 &&
           status.st_dev == pagemap_device && status.st_ino == pagemap_inode;
}

/* Take pages that show zeros only for what they are: not there.  0: it cannot be told. */
static int without_zeros(uintptr_t at, size_t pages) {
    if (!pagemap_is_ours() || !read_entries(at, pages)) {
        return 0;
    }
    for (size_t i = 0; i < pages; i++) {
        vector[i] = (entries[i] & PRESENT) != 0 && (entries[i] & MAPPED_ALONE) != 0;
    }
    return 1;
}

static int any_of(size_t pages) {
    return memchr(vector, 1, pages) != NULL;
}

/* See which of some pages are touched, into `vector`. */
static int look_at_pages(uintptr_t at, size_t pages, int shared) {
    if (mincore((void *)at, pages * page_size(), vector) != 0) {
        return 0;
    }
    for (size_t i = 0; i < pages; i++) {
        vector[i] &= 1;
    }
    if (!shared && any_of(pages) && !without_zeros(at, pages)) {
        return mincore((void *)at, pages * page_size(), vector) == 0;
    }
    return 1;
}

/* Try it on a page that is written, one that is read and one that is neither. */
static void zeros_start(void) {
    if (pagemap_is_ours()) {
        return;
    }
    size_t page = page_size();
    struct stat status;
    char *pages = mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                       -1, 0);
    if (pages == MAP_FAILED) {
        return;
    }
    pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    pages[0] = 1;
    volatile char zero = pages[page];
    int right = pagemap >= 0 && fstat(pagemap, &status) == 0;
    if (right) {
        pagemap_device = status.st_dev;
        pagemap_inode = status.st_ino;
        right = without_zeros((uintptr_t)pages, 3) && vector[0] == 1 &&
                vector[1] + vector[2] + zero == 0;
    }
    if (!right && pagemap >= 0) {
        close(pagemap);
    }
    pagemap = right ? pagemap : -1;
    munmap(pages, 3 * page);
}

static void before_fork(void) { __atomic_add_fetch(&forked, 1, __ATOMIC_RELAXED); }

/* How often this process has forked: what was there then may be shared with a child. */
HIDDEN unsigned times_forked(void) { return __atomic_load_n(&forked, __ATOMIC_RELAXED); }

/* ---- looks ---------------------------------------------------------------------- */

/* How many of a block's bytes are resident; moves `prefix` (bytes) on.  `shared`: a child
 * may have its pages, too.  `brief`: look no further than the first page that is not. */
static size_t resident(uintptr_t address, size_t size, size_t *prefix, int shared,
                       int brief) {
    int error = errno;
    size_t page = page_size();
    uintptr_t at = (address + *prefix) & ~(page - 1);
    uintptr_t end = (address + size + page - 1) & ~(page - 1);
    uintptr_t known = address + *prefix; /* resident up to here */
    size_t beyond = 0;                   /* pages that are, further on */
    int unbroken = 1;
    size_t most = brief ? FEW_PAGES : PAGES;
    while (at < end && (unbroken || !brief)) {
        size_t pages = (end - at) / page < most ? (end - at) / page : most;
        if (!look_at_pages(at, pages, shared)) {
            break; /* part of it is no memory: not a block, then */
        }
        for (size_t i = 0; i < pages; i++) {
            if (!unbroken && i % 8 == 0 && i + 8 <= pages && none_of_eight(vector + i)) {
                i += 7; /* most of what is reserved and not touched */
                continue;
            }
            if (unbroken && vector[i] != 0) {
                known = at + (i + 1) * page;
            }
            else {
                unbroken = 0;
                beyond += vector[i];
            }
        }
        at += pages * page;
    }
    errno = error;
    *prefix = known - address < size ? known - address : size;
    size_t bytes = *prefix + beyond * page;
    return bytes < size ? bytes : size;
}

HIDDEN size_t resident_bytes(uintptr_t address, size_t size) {
    size_t prefix = 0;
    return resident(address, size, &prefix, times_forked() != 0, 0);
}

/* Set what of a block may be touched by now and is not counted. */
static void set_filling(block_t *block) {
    int most = block->counted != 0 ? STILL_PART : STILL_WHOLE;
    int filled = block->to_this_open != NULL && block->still < most;
    size_t filling = filled ? block->size - block->counted : 0;
    if (filling != block->filling) {
        filled_blocks += (size_t)(filling != 0) - (size_t)(block->filling != 0);
        say_filling(block->owner, (int64_t)filling - (int64_t)block->filling);
        block->filling = filling;
    }
}

static void put_in_front(block_t *block) {
    block->next_open = open_blocks;
    block->to_this_open = &open_blocks;
    if (open_blocks != NULL) {
        open_blocks->to_this_open = &block->next_open;
    }
    open_blocks = block;
}

static void take_out(block_t *block) {
    *block->to_this_open = block->next_open;
    if (block->next_open != NULL) {
        block->next_open->to_this_open = block->to_this_open;
    }
    block->to_this_open = NULL;
}

HIDDEN void block_opens(block_t *block) {
    put_in_front(block);
    set_filling(block);
    if (thread_waits) {
        pthread_cond_signal(&opened);
    }
}

HIDDEN void block_closes(block_t *block) {
    if (block->to_this_open != NULL) {
        take_out(block);
        set_filling(block);
    }
}

/* Returns whether more or less of it is resident than was known. */
static int count_resident(block_t *block, int brief) {
    size_t bytes = resident(block->address, block->size, &block->prefix,
                            block->forked != times_forked(), brief);
    if (block->samples != NULL) {
        size_t unwritten = reused_unwritten(block);
        bytes = bytes > unwritten ? bytes - unwritten : 0;
    }
    if (brief && bytes < block->counted) { /* what lies behind the hole */
        bytes = block->counted;
    }
    int64_t more = (int64_t)bytes - (int64_t)block->counted;
    block->counted = bytes;
    block->owner->untouched -= more;
    if (more != 0) {
        block->still = 0;
        found_in_task(block->owner, more);
    }
    int64_t here = (int64_t)(block->size - bytes), all = block->owner->untouched;
    if (all == 0 || (!brief && all == here)) { /* no other block is open */
        settle(block->owner, 0);
    }
    if (bytes == block->size) {
        block_closes(block);
    }
    else {
        set_filling(block);
    }
    return more != 0;
}

/* Whether the task has time left for another look.  If not, its peak may be higher by
 * all that might have been touched meanwhile, which is then its error. */
static int affordable(task_t *task) {
    int64_t now = now_ns();
    if (task->begun == 0) {
        task->begun = now;
    }
    if (task->looked <= FREE_NS + (now - task->begun) / TASK_SHARE && !looks_left_out) {
        return 1;
    }
    settle(task, task->untouched);
    return 0;
}

/* Look at one block; what finds nothing is charged to its task. */
static void look_and_charge(block_t *block) {
    task_t *task = block->owner;
    size_t counted = block->counted, left = block->size - block->prefix;
    int64_t before = used_ns();
    count_resident(block, 0);
    size_t found = block->counted > counted ? block->counted - counted : 0;
    double fruitless = found < left ? 1 - (double)found / (double)left : 0;
    task->looked += (int64_t)(fruitless * (double)(used_ns() - before));
}

HIDDEN void look_at_block(block_t *block) {
    if (affordable(block->owner)) {
        look_and_charge(block);
    }
}

/* Look at all of a task's blocks that are open; `last`: whatever the time it takes. */
HIDDEN void look_at_task(task_t *task, int last) {
    if (last || affordable(task)) {
        for (block_t *block = task->blocks; block != NULL; block = block->next_of_task) {
            if (block->counted < block->size) {
                look_and_charge(block);
            }
        }
        settle(task, 0);
    }
}

/* ---- the thread ----------------------------------------------------------------- */

/* One round: look at open blocks, those looked at longest ago first. */
static int64_t look_round(void) {
    int64_t begun = used_ns(), taken = looks_left_out ? ROUND_NS : 0;
    block_t *last = NULL;
    while (open_blocks != NULL && open_blocks != last && taken < ROUND_NS) {
        block_t *block = open_blocks, *end = block;
        if (!count_resident(block, 0) && block->still < STILL_PART) {
            block->still++;
            set_filling(block);
        }
        if (block->to_this_open != NULL) { /* still open: to the end of the list */
            while (end->next_open != NULL) {
                end = end->next_open;
            }
            if (end != block) {
                take_out(block);
                block->next_open = NULL;
                block->to_this_open = &end->next_open;
                end->next_open = block;
            }
            last = last != NULL ? last : block;
        }
        taken = used_ns() - begun;
    }
    return taken;
}

/* Between two rounds: see how far blocks have come that are being filled. */
static int64_t look_briefly(void) {
    int64_t begun = used_ns(), taken = looks_left_out ? BRIEF_NS : 0;
    for (block_t *block = open_blocks, *next; block != NULL && taken < BRIEF_NS;
         block = next) {
        next = block->next_open; /* a block that is whole leaves the list */
        if (block->filling != 0) {
            count_resident(block, 1);
            taken = used_ns() - begun;
        }
    }
    return taken;
}

static void sleep_for(int64_t ns) {
    struct timespec rest = {ns / 1000000000, ns % 1000000000};
    nanosleep(&rest, NULL);
}

/* Wait until a block opens, or for some time where there are open ones. */
static void wait_for_block(int64_t until) {
    struct timespec end = {until / 1000000000, until % 1000000000};
    thread_waits = 1;
    if (open_blocks == NULL) {
        pthread_cond_wait(&opened, &table_lock);
    }
    else {
        pthread_cond_timedwait(&opened, &table_lock, &end);
    }
    thread_waits = 0;
}

static void *look_on(void *unused) {
    int64_t next_round = 0;
    pthread_mutex_lock(&table_lock);
    for (;;) {
        while (filled_blocks == 0 && (open_blocks == NULL || now_ns() < next_round)) {
            wait_for_block(next_round);
        }
        int64_t now = now_ns(), pause = 0;
        if (now >= next_round) {
            int64_t between = look_round() * THREAD_SHARE;
            next_round = now + (between > INTERVAL_NS ? between : INTERVAL_NS);
        }
        else {
            pause = look_briefly() * BRIEFLY_SHARE;
        }
        pthread_mutex_unlock(&table_lock);
        sleep_for(pause > BRIEFLY_NS ? pause : BRIEFLY_NS);
        pthread_mutex_lock(&table_lock);
    }
    return unused;
}

static int make_condition(void) {
    pthread_condattr_t attributes;
    return pthread_condattr_init(&attributes) == 0 &&
           pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0 &&
           pthread_cond_init(&opened, &attributes) == 0;
}

/* Start the thread, once in a process; it sleeps while no block is open. */
HIDDEN int residency_start(void) {
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    if (thread_runs) {
        return 1;
    }
    page_size();
    pthread_mutex_lock(&table_lock);
    zeros_start();
    pthread_mutex_unlock(&table_lock);
    sigfillset(&all);
    static int at_fork;
    if (!at_fork && pthread_atfork(before_fork, NULL, NULL) != 0) {
        return 0;
    }
    at_fork = 1;
    if (!make_condition() || pthread_attr_init(&attributes) != 0) {
        return 0;
    }
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 256 << 10);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the host's matter */
    thread_runs = real.pthread_create(&thread, &attributes, look_on, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return thread_runs;
}

HIDDEN void residency_in_child(void) {
    if (pagemap_is_ours()) { /* it shows the parent */
        close(pagemap);
    }
    pagemap = -1;
    forked = 0;
    open_blocks = NULL;
    filled_blocks = 0;
    thread_runs = thread_waits = 0;
}
