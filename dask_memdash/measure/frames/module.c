/* The module _lines: what is set at install, and a try. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "inside.h"

#include <pthread.h>
#include <string.h>

static PyObject *lines_configure(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *roots, *hosts, *names;
    const char *kinds_now, *caches_now;
    Py_ssize_t n_kinds, n_caches;
    if (!PyArg_ParseTuple(args, "y#y#O!O!O!:configure", &kinds_now, &n_kinds, &caches_now,
                          &n_caches, &PyTuple_Type, &names, &PyList_Type, &roots,
                          &PyList_Type, &hosts)) {
        return NULL;
    }
    if (n_kinds != sizeof kinds || n_caches != sizeof caches) {
        PyErr_SetString(PyExc_ValueError, "a kind and a cache for each of 256 operations");
        return NULL;
    }
    if (set_roots(roots, hosts) != 0) {
        return NULL;
    }
    memset(operators, 0, sizeof operators);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names) && i < 32; i++) {
        const char *name = PyUnicode_AsUTF8(PyTuple_GET_ITEM(names, i));
        if (name == NULL) {
            return NULL;
        }
        strncpy(operators[i], name, sizeof operators[i] - 1);
    }
    memcpy(kinds, kinds_now, sizeof kinds);
    memcpy(caches, caches_now, sizeof caches);
    Py_RETURN_NONE;
}

static PyObject *lines_here(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
    line_t line;
    look_here(&line);
    const char *text = line.text;
    return Py_BuildValue("s#Is#s#I", text, (Py_ssize_t)line.file, line.number,
                         text + line.file, (Py_ssize_t)line.function,
                         text + line.file + line.function, (Py_ssize_t)line.called,
                         line.flags);
}

static PyObject *lines_watched(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
    return PyLong_FromLong(__atomic_load_n(LINES.watched, __ATOMIC_RELAXED));
}

static PyObject *lines_forget_all(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none)) {
    forget_all();
    Py_RETURN_NONE;
}

static PyMethodDef METHODS[] = {
    {"configure", lines_configure, METH_VARARGS,
     "configure(kinds, caches, operators, roots, hosts): what lines.py knows."},
    {"here", lines_here, METH_NOARGS,
     "here() -> (file, line, function, called, flags) of whoever calls this."},
    {"watched", lines_watched, METH_NOARGS,
     "watched() -> how many large blocks of tasks are known now."},
    {"forget_all", lines_forget_all, METH_NOARGS,
     "forget_all(): no block is known; what stands in recorders is left as it is."},
    {NULL, NULL, 0, NULL}};

static int execute(PyObject *module) {
    static int at_fork;
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_ImportError, "it is for the main interpreter only");
        return -1;
    }
    if (frames_unknown != NULL) {
        PyErr_SetString(PyExc_ImportError, frames_unknown);
        return -1;
    }
    if (!at_fork && pthread_atfork(NULL, NULL, blocks_in_child) != 0) {
        PyErr_SetString(PyExc_ImportError, "no handler for fork could be set");
        return -1;
    }
    at_fork = 1;
    PyObject *table = PyCapsule_New((void *)&LINES, LINES_CAPSULE, NULL);
    PyObject *version = PyLong_FromLong(PY_VERSION_HEX >> 16);
    int failed = table == NULL || version == NULL ||
                 PyModule_AddObjectRef(module, "lines", table) != 0 ||
                 PyModule_AddObjectRef(module, "version", version) != 0;
    Py_XDECREF(table);
    Py_XDECREF(version);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot SLOTS[] = {
    {Py_mod_exec, (void *)execute},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL}};

static PyModuleDef MODULE = {PyModuleDef_HEAD_INIT,
                             .m_name = "_lines",
                             .m_doc = "The line of an allocation; see lines.py.",
                             .m_methods = METHODS,
                             .m_slots = SLOTS};

PyMODINIT_FUNC PyInit__lines(void) { return PyModuleDef_Init(&MODULE); }
