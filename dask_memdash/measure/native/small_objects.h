/* What module.c needs of small_objects.c, which knows Python, as native.h does not. */
#ifndef MEMDASH_SMALL_OBJECTS_H
#define MEMDASH_SMALL_OBJECTS_H

#include "native.h"

HIDDEN int objects_on(void);
HIDDEN void objects_off(int all);
HIDDEN void objects_in_child(void);
HIDDEN int objects_are_on(void);
HIDDEN void objects_arena_goes(const void *arena, size_t size);
HIDDEN void objects_forget(void);

#endif
