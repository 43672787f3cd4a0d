/* Which line a thread is at, as text, and whose code that is.
 *
 * Reads the interpreter's own frames, as tracemalloc does: a frame object would have to
 * be allocated.  Their layout is that of the headers that this was compiled with, which
 * does not change within a minor version; module.c's caller compares versions and tries
 * it before anybody relies on it.  Other versions, and builds without a GIL (where other
 * threads may rewrite what is read here), are not known.
 *
 * The line that is named is the innermost one in the user's own code.  Where there is
 * none, it is the outermost of a library that Dask called: what is installed of the
 * user's looks like a library.
 */
#define PY_SSIZE_T_CLEAN
#ifndef Py_BUILD_CORE
#define Py_BUILD_CORE 1
#endif
#include <Python.h>

#include "inside.h"

#include <string.h>

#if PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030E0000 && \
    !defined(Py_GIL_DISABLED) && defined(__has_include)
#if __has_include("internal/pycore_frame.h")
#include "internal/pycore_frame.h"
#define FRAMES_KNOWN 1
#endif
#endif

/* ---- texts ----------------------------------------------------------------------- */

/* Write characters as UTF-8, whole ones only; those that a terminal obeys, and halves
 * of pairs, as "?".  Returns the number of bytes. */
HIDDEN size_t put_text(char *to, size_t most, PyObject *text, Py_ssize_t from,
                       Py_ssize_t end) {
    size_t n = 0;
    int kind = PyUnicode_KIND(text);
    const void *data = PyUnicode_DATA(text);
    for (Py_ssize_t i = from; i < end; i++) {
        Py_UCS4 c = PyUnicode_READ(kind, data, i);
        if (c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0xD800 && c < 0xE000)) {
            c = '?';
        }
        size_t size = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        if (n + size > most) {
            break;
        }
        if (size == 1) {
            to[n] = (char)c;
        }
        else {
            for (size_t k = size - 1; k > 0; k--, c >>= 6) {
                to[n + k] = (char)(0x80 | (c & 0x3F));
            }
            to[n] = (char)(c | (0xF00u >> size));
        }
        n += size;
    }
    return n;
}

/* Whether a text can be read as it lies. */
static int readable(PyObject *text) {
    return text != NULL && PyUnicode_Check(text)
#if PY_VERSION_HEX < 0x030C0000
           && PyUnicode_IS_READY(text)
#endif
        ;
}

/* ---- whose code a file is --------------------------------------------------------- */

enum { MOST_ROOTS = 32, MOST_HOSTS = 16, ROOT_MOST = 512, HOST_MOST = 32 };

/* The beginning of library files' names. */
typedef struct {
    Py_UCS4 text[ROOT_MOST];
    Py_ssize_t length;
    Py_ssize_t name; /* where the package's name begins */
    whose_t whose;
} root_t;

static root_t roots[MOST_ROOTS];
static int n_roots;
static char hosts[MOST_HOSTS][HOST_MOST]; /* Dask's packages, and ours */
static int n_hosts;

/* A file name as it lies, and what its package is called there. */
typedef struct {
    int kind;
    const void *data;
    Py_ssize_t length;
    Py_ssize_t name, name_end; /* equal: it is in none */
} path_t;

#define AT(path, i) PyUnicode_READ((path)->kind, (path)->data, i)

static int starts(const path_t *path, Py_ssize_t at, const char *text) {
    Py_ssize_t i = 0;
    for (; text[i] != 0; i++) {
        if (at + i >= path->length || AT(path, at + i) != (unsigned char)text[i]) {
            return 0;
        }
    }
    return 1;
}

static void find_name(path_t *path, Py_ssize_t from) {
    Py_ssize_t end = from;
    while (end < path->length && AT(path, end) != '/' && AT(path, end) != '.') {
        end++;
    }
    path->name = from;
    path->name_end = end;
}

static int in_host(const path_t *path) {
    for (int i = 0; i < n_hosts; i++) {
        Py_ssize_t length = (Py_ssize_t)strlen(hosts[i]);
        if (path->name_end - path->name == length && starts(path, path->name, hosts[i])) {
            return 1;
        }
    }
    return 0;
}

static int has_root(const path_t *path, const root_t *root) {
    if (path->length < root->length) {
        return 0;
    }
    for (Py_ssize_t i = 0; i < root->length; i++) {
        if (AT(path, i) != root->text[i]) {
            return 0;
        }
    }
    return 1;
}

static whose_t whose(path_t *path) {
    static const char PACKAGES[] = "-packages/", LIBRARIES[] = "/lib/python3.";
    path->name = path->name_end = 0;
    if (starts(path, 0, "<frozen ")) {
        return STANDARD;
    }
    if (starts(path, 0, "<__array_function__")) {
        return LIBRARY;
    }
    for (int i = 0; i < n_roots; i++) {
        if (has_root(path, &roots[i]) && roots[i].whose == HOST) {
            find_name(path, roots[i].name);
            return HOST;
        }
    }
    /* By their names too: code that was pickled has the paths of another machine. */
    Py_ssize_t most = path->length < ROOT_MOST ? path->length : ROOT_MOST, library = -1;
    for (Py_ssize_t i = 0; i < most; i++) {
        Py_UCS4 c = AT(path, i);
        if (c == '-' && i > 4 && starts(path, i, PACKAGES) &&
            (starts(path, i - 5, "/site-") || starts(path, i - 5, "/dist-"))) {
            find_name(path, i + (Py_ssize_t)sizeof PACKAGES - 1);
            return in_host(path) ? HOST : LIBRARY;
        }
        if (c == '/' && library < 0 && starts(path, i, LIBRARIES)) {
            library = i + (Py_ssize_t)sizeof LIBRARIES - 1;
        }
    }
    for (int i = 0; i < n_roots; i++) {
        if (has_root(path, &roots[i])) {
            find_name(path, roots[i].name);
            return roots[i].whose;
        }
    }
    if (library >= 0) {
        while (library < path->length && AT(path, library) != '/') {
            library++;
        }
        find_name(path, library + 1 < path->length ? library + 1 : path->length);
        return STANDARD;
    }
    return USERS;
}

/* Set what files are a library's: a list of (beginning of their names, where in it the
 * package's name begins, whether it is the host's), and the names of the host's packages.
 * Called under the GIL, before anybody asks. */
HIDDEN int set_roots(PyObject *list, PyObject *names) {
    n_roots = n_hosts = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list) && n_roots < MOST_ROOTS; i++) {
        PyObject *text;
        Py_ssize_t name;
        int host;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(list, i), "Unp", &text, &name, &host)) {
            return -1;
        }
        root_t *root = &roots[n_roots];
        root->length = PyUnicode_GET_LENGTH(text);
        if (root->length == 0 || root->length > ROOT_MOST || name < 0 ||
            name > root->length) {
            continue;
        }
        for (Py_ssize_t k = 0; k < root->length; k++) {
            root->text[k] = PyUnicode_READ_CHAR(text, k);
        }
        root->name = name;
        root->whose = host ? HOST : STANDARD;
        n_roots++;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(names) && n_hosts < MOST_HOSTS; i++) {
        const char *name = PyUnicode_AsUTF8(PyList_GET_ITEM(names, i));
        if (name == NULL) {
            return -1;
        }
        if (strlen(name) < HOST_MOST) {
            strcpy(hosts[n_hosts++], name);
        }
    }
    return 0;
}

/* ---- frames ------------------------------------------------------------------------ */

#ifndef FRAMES_KNOWN

HIDDEN const char *const frames_unknown =
#ifdef Py_GIL_DISABLED
    "this interpreter has no GIL";
#else
    "how this version of Python lays out its frames is not known";
#endif

HIDDEN void look_here(line_t *line) {
    memset(line, 0, sizeof *line);
    line->flags = OUTSIDE_PYTHON;
}

#else

HIDDEN const char *const frames_unknown = NULL;

typedef struct _PyInterpreterFrame frame_t;

static PyCodeObject *code_of(const frame_t *frame) {
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *code = frame->f_executable;
#else
    PyObject *code = (PyObject *)frame->f_code;
#endif
    return code != NULL && PyCode_Check(code) ? (PyCodeObject *)code : NULL;
}

/* The operation that a frame is at; -1 where it has not begun. */
static int operation_of(const frame_t *frame, PyCodeObject *code) {
#if PY_VERSION_HEX >= 0x030D0000
    Py_ssize_t at = frame->instr_ptr - _PyCode_CODE(code);
#else
    Py_ssize_t at = frame->prev_instr - _PyCode_CODE(code);
#endif
    return at >= 0 && at < Py_SIZE(code) ? (int)at : -1;
}

/* Whether it is a frame of Python code that runs: not one that is being made, nor one
 * that stands for a call from C. */
static int is_whole(const frame_t *frame, PyCodeObject *code) {
#if PY_VERSION_HEX >= 0x030C0000
    if (frame->owner == FRAME_OWNED_BY_CSTACK) {
        return 0;
    }
#endif
    return code != NULL && readable(code->co_filename) && readable(code->co_qualname) &&
           (frame->owner == FRAME_OWNED_BY_GENERATOR ||
            operation_of(frame, code) >= code->_co_firsttraceable);
}

static const frame_t *innermost(void) {
    PyThreadState *state = Py_IsInitialized() ? PyGILState_GetThisThreadState() : NULL;
    if (state == NULL) {
        return NULL;
    }
#if PY_VERSION_HEX >= 0x030D0000
    return state->current_frame;
#else
    return state->cframe != NULL ? state->cframe->current_frame : NULL;
#endif
}

/* The last two parts of a file's name. */
static size_t put_file(char *to, PyObject *name) {
    Py_ssize_t length = PyUnicode_GET_LENGTH(name), from = length, parts = 0;
    Py_ssize_t least = length > FILE_MOST ? length - FILE_MOST : 0;
    while (from > least) {
        Py_UCS4 c = PyUnicode_READ_CHAR(name, from - 1);
        if ((c == '/' || c == '\\') && ++parts == 2) {
            break;
        }
        from--;
    }
    return put_text(to, FILE_MOST, name, from, length);
}

/* What a library calls a function of its own: its package, and the function's name. */
static size_t put_function(char *to, const path_t *path, PyCodeObject *code) {
    PyObject *name = code->co_qualname;
    Py_ssize_t length = PyUnicode_GET_LENGTH(name);
    size_t n = 0;
    for (Py_ssize_t i = 0; i < length; i++) {
        if (PyUnicode_READ_CHAR(name, i) == '<') { /* `<locals>`: nobody can call it so */
            return 0;
        }
    }
    for (Py_ssize_t i = path->name; i < path->name_end && n < NAME_MOST - 1; i++) {
        Py_UCS4 c = AT(path, i);
        to[n++] = c > 0x20 && c < 0x7F ? (char)c : '?';
    }
    if (n != 0) {
        to[n++] = '.';
    }
    return n + put_text(to + n, NAME_MOST - n, name, 0, length);
}

static void describe(line_t *line, const frame_t *frame, const frame_t *inner) {
    enum { MOST_OPERATIONS = 20000 };
    PyCodeObject *code = code_of(frame);
    char *to = line->text;
    int at = operation_of(frame, code), certain = 0;
    int number = at >= 0 ? PyCode_Addr2Line(code, at * (int)sizeof(_Py_CODEUNIT))
                         : code->co_firstlineno;
    line->number = number > 0 ? (uint32_t)number : 0;
    line->file = (uint8_t)put_file(to, code->co_filename);
    to += line->file;
    Py_ssize_t length = PyUnicode_GET_LENGTH(code->co_qualname); /* its end says most */
    line->function = (uint8_t)put_text(to, NAME_MOST, code->co_qualname,
                                       length > NAME_MOST ? length - NAME_MOST : 0, length);
    to += line->function;
    if (at >= 0 && Py_SIZE(code) <= MOST_OPERATIONS) {
        line->called = (uint8_t)name_called(to, NAME_MOST, (PyObject *)code, at,
                                            frame->localsplus, &certain);
    }
    PyCodeObject *other = inner != NULL ? code_of(inner) : NULL;
    if (!certain && other != NULL) { /* what it is called says more than `x.merge` */
        path_t path = {PyUnicode_KIND(other->co_filename),
                       PyUnicode_DATA(other->co_filename),
                       PyUnicode_GET_LENGTH(other->co_filename), 0, 0};
        char name[NAME_MOST];
        whose(&path);
        size_t n = put_function(name, &path, other);
        if (n != 0) {
            memcpy(to, name, n);
            line->called = (uint8_t)n;
        }
    }
}

HIDDEN void look_here(line_t *line) {
    enum { MOST_FRAMES = 500 };
    memset(line, 0, offsetof(line_t, text));
    const frame_t *inner = NULL, *first = NULL;          /* last, and first that was met */
    const frame_t *entry = NULL, *entry_inner = NULL;    /* outermost of a library */
    int host = 0;
    const frame_t *frame = innermost();
    for (int i = 0; frame != NULL && i < MOST_FRAMES; i++, frame = frame->previous) {
        PyCodeObject *code = code_of(frame);
        if (!is_whole(frame, code)) {
            continue;
        }
        path_t path = {PyUnicode_KIND(code->co_filename), PyUnicode_DATA(code->co_filename),
                       PyUnicode_GET_LENGTH(code->co_filename), 0, 0};
        whose_t owner = whose(&path);
        if (owner == USERS) {
            describe(line, frame, inner);
            return;
        }
        if (owner == LIBRARY && !host) {
            entry = frame;
            entry_inner = inner;
        }
        host |= owner == HOST;
        first = first != NULL ? first : frame;
        inner = frame;
    }
    if (entry != NULL || first != NULL) {
        describe(line, entry != NULL ? entry : first, entry != NULL ? entry_inner : NULL);
    }
    else {
        line->flags = OUTSIDE_PYTHON;
    }
}

#endif
