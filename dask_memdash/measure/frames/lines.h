/* The line of an allocation: what its parts share.
 *
 *   frames.c   which line a thread is at, as text
 *   whose.c    whose code a file is
 *   callee.c   what that line calls, from the byte code
 *   blocks.c   large blocks of running tasks, and the largest of each task, written
 *              where another process reads it
 *   module.c   the Python module: what is set at install, and a try
 *
 * Both tallies call it, through the table of functions below, for blocks of LARGE bytes
 * and more, from inside an allocator: nothing here allocates, takes a reference, raises,
 * runs Python code or waits for anything but blocks.c's lock.  It only reads, and only
 * what belongs to the thread that asks: its own frames stand still while it is in here,
 * whether or not it holds the GIL, and they hold their code objects.
 */
#ifndef MEMDASH_LINES_H
#define MEMDASH_LINES_H

#include <stddef.h>
#include <stdint.h>

/* Blocks from so many bytes on are known with their line. */
#define LARGE ((size_t)16 << 20)

/* Where the line stands behind a slot's counters; see flight/format.py. */
#define LINE_OFFSET 512
#define LINE_SIZE 256

enum { FILE_MOST = 96, NAME_MOST = 64, TEXT_MOST = FILE_MOST + 2 * NAME_MOST };

/* The thread that allocated has no Python frame. */
enum { OUTSIDE_PYTHON = 1 };

/* A line, as text: file, function and what it called, one after the other. */
typedef struct {
    uint32_t number; /* 0: not known */
    uint32_t flags;
    uint8_t file, function, called; /* lengths in bytes; 0: not known */
    char text[TEXT_MOST];
} line_t;

/* What the tallies call.  `place` is LINE_SIZE bytes in a recorder's slot. */
typedef struct {
    void (*came)(void *place, void *block, size_t size);
    void (*gone)(void *block);
    void (*forget)(void *place); /* another task has it from now on */
    const int *watched;          /* how many blocks are known now */
} lines_t;

#define LINES_CAPSULE "dask_memdash.measure._lines.lines"

#endif
