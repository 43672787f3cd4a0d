/* What the files of the module _lines share beyond lines.h.  After Python.h. */
#ifndef MEMDASH_LINES_INSIDE_H
#define MEMDASH_LINES_INSIDE_H

#include "lines.h"

#define HIDDEN __attribute__((visibility("hidden")))

/* Whose code a file is. */
typedef enum { USERS, LIBRARY, STANDARD, HOST } whose_t;

/* What an operation of the byte code is to callee.c; lines.py has the same names. */
enum {
    UNKNOWN, OTHER, EXTENDED, GLOBAL, NAME, LOCAL, DEREF, ATTRIBUTE, ATTRIBUTE_SHIFTED,
    CALL, BEFORE_CALL, BINARY, SUBSCRIPT, COMPARE, BUILD
};

/* A file name as it lies, and what its package is called there. */
typedef struct {
    int kind;
    const void *data;
    Py_ssize_t length;
    Py_ssize_t name, name_end; /* equal: it is in none */
} path_t;

#define AT(path, i) PyUnicode_READ((path)->kind, (path)->data, i)

/* whose.c */
HIDDEN path_t path_of(PyObject *text);
HIDDEN int starts(const path_t *path, Py_ssize_t at, const char *text);
HIDDEN void find_name(path_t *path, Py_ssize_t from);
HIDDEN int in_host(const path_t *path);
HIDDEN whose_t whose(path_t *path);
HIDDEN int set_roots(PyObject *roots, PyObject *hosts);

/* frames.c */
extern HIDDEN const char *const frames_unknown; /* NULL where frames can be read */
HIDDEN void look_here(line_t *line);
HIDDEN size_t put_text(char *to, size_t most, PyObject *text, Py_ssize_t from,
                       Py_ssize_t end);

/* callee.c */
extern HIDDEN unsigned char kinds[256], caches[256];
extern HIDDEN char operators[32][8];
HIDDEN size_t name_called(char *to, size_t most, PyObject *code, int at,
                          PyObject *const *locals, int *certain);

/* blocks.c */
extern HIDDEN const lines_t LINES;
HIDDEN void forget_all(void);
HIDDEN void blocks_in_child(void);

#endif
