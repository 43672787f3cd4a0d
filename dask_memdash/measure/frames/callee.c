/* What a line calls, from the byte code that it is at.
 *
 * A function written in C has no frame, so that NumPy's own are nowhere on the stack.  The
 * call that is under way begins, in the source, where its function's name begins: the
 * operations before it that begin at the same place are those that look that name up
 * (np, then .concatenate).  No source is needed for that, only positions (PEP 657).
 *
 * What each operation is, in this version of Python, is told by lines.py.  An operation
 * that nobody knows ends the search: then there is no name.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "inside.h"

#include <string.h>

HIDDEN unsigned char kinds[256], caches[256];
HIDDEN char operators[32][8];

#if PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030E0000

/* ---- positions: Objects/locations.md of CPython ----------------------------------- */

typedef struct {
    const unsigned char *next, *limit;
    int end;  /* operations from here on are beyond this entry */
    int line; /* relative to the function's first */
    int from, column; /* the line and column at which it begins; column -1: not known */
} positions_t;

static unsigned varint(positions_t *at) {
    unsigned value = 0;
    for (int shift = 0; at->next < at->limit && shift < 30; shift += 6) {
        unsigned char byte = *at->next++;
        value |= (unsigned)(byte & 63) << shift;
        if (!(byte & 64)) {
            break;
        }
    }
    return value;
}

static int signed_varint(positions_t *at) {
    unsigned value = varint(at);
    return value & 1 ? -(int)(value >> 1) : (int)(value >> 1);
}

static int byte_of(positions_t *at) { return at->next < at->limit ? *at->next++ : 0; }

/* Go on to the entry that an operation is in; 0 where there is none. */
static int seek(positions_t *at, int operation) {
    while (at->end <= operation) {
        if (at->next >= at->limit) {
            return 0;
        }
        int head = *at->next++, form = (head >> 3) & 15;
        at->end += (head & 7) + 1;
        if (form == 15) {
            at->column = -1;
        }
        else if (form == 14) {
            at->line += signed_varint(at);
            varint(at);
            at->column = (int)varint(at) - 1;
            varint(at);
        }
        else if (form == 13) {
            at->line += signed_varint(at);
            at->column = -1;
        }
        else if (form >= 10) {
            at->line += form - 10;
            at->column = byte_of(at);
            byte_of(at);
        }
        else {
            at->column = (form << 3) | (byte_of(at) >> 4);
        }
        at->from = at->line;
    }
    return 1;
}

/* ---- operations ---------------------------------------------------------------------- */

typedef struct {
    positions_t positions;
    const unsigned char *units;
    int next, n;
    /* the one that was met last */
    int at;
    unsigned kind;
    unsigned argument;
} walk_t;

static walk_t walk_of(PyCodeObject *code) {
    const unsigned char *table = (const unsigned char *)PyBytes_AS_STRING(code->co_linetable);
    walk_t walk = {.units = (const unsigned char *)code->co_code_adaptive,
                   .n = (int)Py_SIZE(code)};
    walk.positions = (positions_t){.next = table, .column = -1,
                                   .limit = table + PyBytes_GET_SIZE(code->co_linetable)};
    return walk;
}

/* Go on to the next operation; 0 where there is none, or one that nobody knows. */
static int step(walk_t *walk) {
    unsigned argument = 0;
    while (walk->next < walk->n) {
        unsigned code = walk->units[2 * walk->next];
        argument = (argument << 8) | walk->units[2 * walk->next + 1];
        walk->at = walk->next;
        walk->kind = kinds[code];
        walk->next += 1 + caches[code];
        if (walk->kind == EXTENDED) {
            continue;
        }
        walk->argument = argument;
        return walk->kind != UNKNOWN && seek(&walk->positions, walk->at);
    }
    return 0;
}

static PyObject *name_at(PyObject *names, unsigned i) {
    return (Py_ssize_t)i < PyTuple_GET_SIZE(names) ? PyTuple_GET_ITEM(names, i) : NULL;
}

/* ---- the name ------------------------------------------------------------------------ */

/* A dotted name, as it is looked up. */
enum { MOST_PARTS = 6 };
typedef struct {
    PyObject *parts[MOST_PARTS];
    int n;
    int whole; /* whether it begins with what is global, or a module */
} dotted_t;

static void begin_name(dotted_t *name, PyObject *first, int whole) {
    name->n = first != NULL;
    name->parts[0] = first;
    name->whole = whole;
}

static void go_on(dotted_t *name, PyObject *part) {
    if (name->n == MOST_PARTS || part == NULL) {
        begin_name(name, NULL, 0);
    }
    if (part != NULL) {
        name->whole = name->n != 0 && name->whole;
        name->parts[name->n++] = part;
    }
}

static int is_module(PyCodeObject *code, PyObject *const *locals, unsigned i, int cell) {
    if ((int)i >= code->co_nlocalsplus || locals[i] == NULL) {
        return 0;
    }
    PyObject *value = locals[i];
    if (cell) {
        value = PyCell_Check(value) ? PyCell_GET(value) : NULL;
    }
    return value != NULL && PyModule_Check(value);
}

static void look_up(dotted_t *name, PyCodeObject *code, const walk_t *walk,
                    PyObject *const *locals) {
    unsigned argument = walk->argument;
    switch (walk->kind) {
    case GLOBAL:
        begin_name(name, name_at(code->co_names, argument >> 1), 1);
        break;
    case NAME:
        begin_name(name, name_at(code->co_names, argument), 1);
        break;
    case LOCAL:
    case DEREF:
        begin_name(name, name_at(code->co_localsplusnames, argument),
                   is_module(code, locals, argument, walk->kind == DEREF));
        break;
    case ATTRIBUTE:
        go_on(name, name_at(code->co_names, argument));
        break;
    case ATTRIBUTE_SHIFTED:
        go_on(name, name_at(code->co_names, argument >> 1));
        break;
    case CALL:
    case BINARY:
    case SUBSCRIPT:
    case COMPARE:
        begin_name(name, NULL, 0); /* what follows is looked up in its result */
        break;
    default:
        break;
    }
}

static size_t put_word(char *to, size_t most, const char *word) {
    size_t n = strlen(word);
    n = n < most ? n : most;
    memcpy(to, word, n);
    return n;
}

/* Write what the operation `at` calls; 0 where that is not known.  `certain`: it is the
 * name by which it is known where it comes from, and not only the last part of it. */
HIDDEN size_t name_called(char *to, size_t most, PyObject *object, int at,
                          PyObject *const *locals, int *certain) {
    PyCodeObject *code = (PyCodeObject *)object;
    walk_t walk = walk_of(code);
    do {
        if (!step(&walk)) {
            return 0;
        }
    } while (walk.next <= at);
    int target = walk.at, line = walk.positions.from, column = walk.positions.column;
    *certain = 1;
    if (walk.kind == BINARY && walk.argument < 32 && operators[walk.argument][0] != 0) {
        size_t n = put_word(to, most, "operator ");
        return n + put_word(to + n, most - n, operators[walk.argument]);
    }
    if (walk.kind == SUBSCRIPT || walk.kind == COMPARE) {
        return put_word(to, most, walk.kind == SUBSCRIPT ? "indexing" : "comparison");
    }
    *certain = 0;
    if ((walk.kind != CALL && walk.kind != BEFORE_CALL) || column < 0) {
        return 0;
    }
    dotted_t name = {.n = 0};
    for (walk = walk_of(code); step(&walk) && walk.at < target;) {
        if (walk.positions.from == line && walk.positions.column == column) {
            look_up(&name, code, &walk, locals);
        }
    }
    size_t n = 0;
    *certain = name.whole;
    for (int i = name.whole ? 0 : name.n - 1; i >= 0 && i < name.n; i++) {
        if (n != 0 && n < most) {
            to[n++] = '.';
        }
        n += put_text(to + n, most - n, name.parts[i], 0,
                      PyUnicode_GET_LENGTH(name.parts[i]));
    }
    return n;
}

#else

HIDDEN size_t name_called(char *to, size_t most, PyObject *code, int at,
                          PyObject *const *locals, int *certain) {
    (void)to, (void)most, (void)code, (void)at, (void)locals;
    *certain = 0;
    return 0;
}

#endif
