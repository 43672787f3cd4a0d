/* Which line a thread is at, as text.
 *
 * Reads the interpreter's own frames, as tracemalloc does: a frame object would have to
 * be allocated.  Their layout is that of the headers that this was compiled with, which
 * does not change within a minor version; module.c's caller compares versions and tries
 * it before anybody relies on it.  Other versions, and builds without a GIL (where other
 * threads may rewrite what is read here), are not known.
 *
 * The line that is named is the innermost one in the user's own code.  Where there is
 * none, it is the outermost of a library that Dask called: what is installed of the
 * user's looks like a library.  Code that was sent by value has lost its file's name
 * (cloudpickle): its function's module stands for it.
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

/* The module of a frame's function, as it was given; NULL where that is not known. */
static PyObject *module_of(const frame_t *frame) {
#if PY_VERSION_HEX >= 0x030C0000
    PyObject *function = frame->f_funcobj;
#else
    PyObject *function = (PyObject *)frame->f_func;
#endif
    if (function == NULL || !PyFunction_Check(function)) {
        return NULL;
    }
    PyObject *module = ((PyFunctionObject *)function)->func_module;
    return readable(module) && PyUnicode_GET_LENGTH(module) != 0 ? module : NULL;
}

/* Whose code a frame runs; `path` is what its package's name is found in. */
static whose_t whose_frame(const frame_t *frame, path_t *path) {
    *path = path_of(code_of(frame)->co_filename);
    whose_t owner = whose(path);
    PyObject *module = owner == USERS && starts(path, 0, "<") ? module_of(frame) : NULL;
    if (module != NULL) {
        path_t named = path_of(module);
        find_name(&named, 0);
        if (in_host(&named)) {
            *path = named;
            return HOST;
        }
    }
    return owner;
}

/* The last two parts of a file's name; of code without a file its module. */
static size_t put_file(char *to, const frame_t *frame) {
    PyObject *name = code_of(frame)->co_filename;
    path_t path = path_of(name);
    PyObject *module = starts(&path, 0, "<") ? module_of(frame) : NULL;
    if (module != NULL) {
        return put_text(to, FILE_MOST, module, 0, PyUnicode_GET_LENGTH(module));
    }
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

static void describe(line_t *line, const frame_t *frame, const frame_t *inner,
                     whose_t owner) {
    enum { MOST_OPERATIONS = 20000 };
    PyCodeObject *code = code_of(frame);
    char *to = line->text;
    int at = operation_of(frame, code), certain = 0;
    int number = at >= 0 ? PyCode_Addr2Line(code, at * (int)sizeof(_Py_CODEUNIT))
                         : code->co_firstlineno;
    line->number = number > 0 ? (uint32_t)number : 0;
    line->file = (uint8_t)put_file(to, frame);
    to += line->file;
    Py_ssize_t length = PyUnicode_GET_LENGTH(code->co_qualname); /* its end says most */
    line->function = (uint8_t)put_text(to, NAME_MOST, code->co_qualname,
                                       length > NAME_MOST ? length - NAME_MOST : 0, length);
    to += line->function;
    if (at >= 0 && Py_SIZE(code) <= MOST_OPERATIONS) {
        line->called = (uint8_t)name_called(to, NAME_MOST, (PyObject *)code, at,
                                            frame->localsplus, &certain);
    }
    /* A library's own name of what was called says more than `x.merge`; of a line of a
     * library it is what Dask called of it. */
    const frame_t *other = owner == LIBRARY ? frame : certain ? NULL : inner;
    if (other != NULL) {
        path_t path;
        char name[NAME_MOST];
        whose_frame(other, &path);
        size_t n = put_function(name, &path, code_of(other));
        if (n != 0) {
            memcpy(to, name, n);
            line->called = (uint8_t)n;
        }
    }
    else if (owner == HOST && !certain) {
        line->called = 0; /* the name of a variable of Dask's says nothing */
    }
}

HIDDEN void look_here(line_t *line) {
    enum { MOST_FRAMES = 500 };
    memset(line, 0, offsetof(line_t, text));
    const frame_t *inner = NULL, *first = NULL; /* last, and first that was met */
    const frame_t *entry = NULL; /* outermost of a library */
    int host = 0;
    const frame_t *frame = innermost();
    for (int i = 0; frame != NULL && i < MOST_FRAMES; i++, frame = frame->previous) {
        PyCodeObject *code = code_of(frame);
        if (!is_whole(frame, code)) {
            continue;
        }
        path_t path;
        whose_t owner = whose_frame(frame, &path);
        if (owner == USERS) {
            describe(line, frame, inner, USERS);
            return;
        }
        if (owner == LIBRARY && !host) {
            entry = frame;
        }
        host |= owner == HOST;
        first = first != NULL ? first : frame;
        inner = frame;
    }
    if (entry != NULL) {
        describe(line, entry, NULL, LIBRARY);
    }
    else if (first != NULL) {
        describe(line, first, NULL, HOST);
    }
    else {
        line->flags = OUTSIDE_PYTHON;
    }
}

#endif
