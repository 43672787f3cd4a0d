/* A disk that is slow, or hangs, below one directory: preloaded into a real process.
 *
 * Every call that changes or looks up a file below SLOW_DISK_BELOW first waits for as
 * many milliseconds as the file SLOW_DISK_CONTROL says (an int32, mapped, so that it
 * may change at any time); below 0 for as long as it says so, as a disk that does not
 * answer.  Only loads and stores of mapped memory pass: SQLite's index of the log.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static volatile int32_t *pause_ms;
static const char *below;

static void rest(long ms)
{
    struct timespec t = {ms / 1000, (ms % 1000) * 1000000L};
    nanosleep(&t, NULL);
}

static void of_path(const char *path)
{
    if (!pause_ms || !*pause_ms || !path || strncmp(path, below, strlen(below)))
        return;
    if (*pause_ms > 0)
        rest(*pause_ms);
    while (*pause_ms < 0)
        rest(10);
}

static void of_file(int fd)
{
    char name[64], path[4096];
    if (!pause_ms || !*pause_ms)
        return;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, path, sizeof path - 1);
    if (length > 0) {
        path[length] = 0;
        of_path(path);
    }
}

__attribute__((constructor)) static void begin(void)
{
    const char *control = getenv("SLOW_DISK_CONTROL");
    below = getenv("SLOW_DISK_BELOW");
    int fd = control && below ? open(control, O_RDONLY) : -1;
    if (fd < 0)
        return;
    void *found = mmap(NULL, sizeof *pause_ms, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (found != MAP_FAILED)
        pause_ms = found;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name);

#define OF_PATH(result, name, types, values) \
    result name types { REAL(name) of_path(path); return real values; }
#define OF_FILE(result, name, types, values) \
    result name types { REAL(name) of_file(fd); return real values; }

#define OPENS(name) \
    int name(const char *path, int flags, ...) \
    { \
        REAL(name) \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = va_arg(more, mode_t); \
        va_end(more); \
        of_path(path); \
        return real(path, flags, mode); \
    }

OPENS(open)
OPENS(open64)
OF_PATH(int, mkdir, (const char *path, mode_t mode), (path, mode))
OF_PATH(int, unlink, (const char *path), (path))
OF_PATH(int, rename, (const char *path, const char *to), (path, to))
OF_PATH(int, access, (const char *path, int mode), (path, mode))
OF_PATH(int, stat, (const char *path, struct stat *found), (path, found))
OF_PATH(int, stat64, (const char *path, struct stat64 *found), (path, found))
OF_PATH(int, lstat, (const char *path, struct stat *found), (path, found))
OF_PATH(int, lstat64, (const char *path, struct stat64 *found), (path, found))
OF_FILE(int, fsync, (int fd), (fd))
OF_FILE(int, fdatasync, (int fd), (fd))
OF_FILE(int, ftruncate, (int fd, off_t size), (fd, size))
OF_FILE(int, ftruncate64, (int fd, off64_t size), (fd, size))
OF_FILE(ssize_t, write, (int fd, const void *from, size_t size), (fd, from, size))
OF_FILE(ssize_t, pwrite, (int fd, const void *from, size_t size, off_t at),
        (fd, from, size, at))
OF_FILE(ssize_t, pwrite64, (int fd, const void *from, size_t size, off64_t at),
        (fd, from, size, at))
