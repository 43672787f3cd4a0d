/* Whose code a file is, by its name: the user's, a library's, Python's own, or Dask's. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "inside.h"

#include <string.h>

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

HIDDEN path_t path_of(PyObject *text) {
    return (path_t){PyUnicode_KIND(text), PyUnicode_DATA(text), PyUnicode_GET_LENGTH(text),
                    0, 0};
}

HIDDEN int starts(const path_t *path, Py_ssize_t at, const char *text) {
    Py_ssize_t i = 0;
    for (; text[i] != 0; i++) {
        if (at + i >= path->length || AT(path, at + i) != (unsigned char)text[i]) {
            return 0;
        }
    }
    return 1;
}

HIDDEN void find_name(path_t *path, Py_ssize_t from) {
    Py_ssize_t end = from;
    while (end < path->length && AT(path, end) != '/' && AT(path, end) != '.') {
        end++;
    }
    path->name = from;
    path->name_end = end;
}

HIDDEN int in_host(const path_t *path) {
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

HIDDEN whose_t whose(path_t *path) {
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
