/* brake.c's face to Python, for module.c. */
#ifndef MEMDASH_BRAKE_H
#define MEMDASH_BRAKE_H

#include <Python.h>

PyObject *brake_set(PyObject *module, PyObject *bytes);
PyObject *brake_begin(PyObject *module, PyObject *may);
PyObject *brake_end(PyObject *module, PyObject *none);

#endif
