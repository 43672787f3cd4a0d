/* What module.c needs of pool_jobs.c, which knows Python, as native.h does not. */
#ifndef MEMDASH_POOL_JOBS_H
#define MEMDASH_POOL_JOBS_H

#include <Python.h>

#include "native.h"

HIDDEN int pool_jobs_ready(void);
HIDDEN PyObject *note_task(ref_t task);
HIDDEN void drop_note(PyObject *token);
HIDDEN PyObject *native_carry(PyObject *module, PyObject *function);
HIDDEN PyObject *native_apart(PyObject *module, PyObject *const *args, Py_ssize_t n,
                              PyObject *names);

#endif
