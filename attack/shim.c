/* Stands between a program and libc: counts file operations below one folder, fails or kills at one of them, writes down
 * what was done, and shifts the clock. Preloaded; does nothing until attack_arm() is called (attack/shim.py).
 *
 * Python's own file calls and those of DuckDB's C++ both pass here. What libc calls inside itself does not, nor does mmap. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Kinds of operation; attack/shim.py has the same table. The first twelve change something. */
enum { CREATE, WRITE, FSYNC, TRUNCATE, RENAME, UNLINK, MKDIR, RMDIR, LINK, UTIME, ALLOCATE, MODE,
       OPEN, READ, STAT, LIST, ACCESS };
#define CHANGES(kind) ((kind) <= MODE)
/* What a full or read-only disk still does. */
#define NEEDS_ROOM(kind) ((kind) == CREATE || (kind) == WRITE || (kind) == MKDIR || (kind) == LINK || (kind) == ALLOCATE)

/* In an entry's flags, beside those of open(2): the operation failed by itself. */
#define FAILED 0x80000000u

enum { NOTHING, KILL, TEAR, FAIL, STAY_FULL, STAY_READ_ONLY };

static char root[PATH_MAX];
static size_t root_length;
static long at, count;
static int action, error_number, log_fd = -1, armed, hits;
static int64_t clock_offset_ns;

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

/* -- control --------------------------------------------------------------------------------------------------------- */

void attack_arm(const char *folder, long n, int what, int number, int descriptor) {
    snprintf(root, sizeof root, "%s", folder);
    root_length = strlen(root);
    at = n, action = what, error_number = number, log_fd = descriptor;
    count = hits = 0;
    armed = root_length > 0;
}
void attack_disarm(void) { armed = 0; }
int attack_hits(void) { return hits; }
long attack_count(void) { return count; }
void attack_step_clock(int64_t ns) { __atomic_add_fetch(&clock_offset_ns, ns, __ATOMIC_SEQ_CST); }

__attribute__((constructor)) static void begin(void) {
    const char *seconds = getenv("ATTACK_CLOCK_SECONDS");
    if (seconds) clock_offset_ns = (int64_t)atol(seconds) * 1000000000;
}

/* -- which operation this is ------------------------------------------------------------------------------------------ */

static int below_root(const char *path) {
    return strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || path[root_length] == 0);
}

static int path_of(int fd, char *path) {
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = syscall(SYS_readlink, link, path, PATH_MAX - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return below_root(path);
}

/* The whole path of a name as an *at function takes it; 0 where it is not below the root. */
static int path_at(int folder, const char *name, char *path) {
    if (!name) return 0;
    if (name[0] == '/' || folder == AT_FDCWD) {
        if (name[0] != '/') return 0;
        snprintf(path, PATH_MAX, "%s", name);
        return below_root(path);
    }
    char parent[PATH_MAX];
    if (!path_of(folder, parent)) return 0;
    size_t length = strlen(parent);
    if (length + strlen(name) + 2 > PATH_MAX) return 0;
    memcpy(path, parent, length);
    if (name[0]) { path[length++] = '/'; }
    strcpy(path + length, name);
    return 1;
}

struct entry { uint32_t kind, path_size, other_size, flags; uint64_t offset, size; };

static void write_down(int kind, const char *path, const char *other, uint32_t flags, uint64_t offset, const void *data,
                       size_t size) {
    if (log_fd < 0) return;
    int before = errno;
    struct entry head = {kind, strlen(path), other ? strlen(other) : 0, flags, offset, kind == WRITE ? size : 0};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)path, head.path_size}, {(void *)other, head.other_size},
                            {(void *)data, kind == WRITE ? size : 0}};
    syscall(SYS_writev, log_fd, parts, 4);
    errno = before;
}

/* Counts the operation. 0: do it. 1: do not, errno is set. 2: do half of it, then `torn`. */
static int strikes(int kind) {
    long number = __atomic_fetch_add(&count, 1, __ATOMIC_SEQ_CST);
    int struck = number == at;
    if (action == STAY_FULL) struck = number >= at && NEEDS_ROOM(kind);
    if (action == STAY_READ_ONLY) struck = number >= at && CHANGES(kind) && kind != FSYNC;
    if (!struck || action == NOTHING) return 0;
    hits++;
    if (action == KILL) { syscall(SYS_kill, (pid_t)syscall(SYS_getpid), SIGKILL); for (;;) pause(); }
    if (action == TEAR) return 2;
    if (action == STAY_FULL && kind == WRITE && hits == 1) return 2;
    errno = error_number;
    return 1;
}

/* What follows an operation of which half was done. */
static void torn(void) {
    if (action == TEAR) { syscall(SYS_kill, (pid_t)syscall(SYS_getpid), SIGKILL); for (;;) pause(); }
}

/* An operation that is done as a whole or not at all. */
#define PASS(kind, known, call, done)                                                                                    \
    int strike = armed && (known) ? strikes(kind) : -1;                                                                  \
    if (strike == 1) return -1;                                                                                          \
    long result = (call);                                                                                                \
    if (strike >= 0 && result >= 0) { done; }                                                                            \
    if (strike >= 0 && result < 0) write_down(kind, path, 0, FAILED, 0, 0, 0);                                           \
    if (strike == 2) torn();                                                                                             \
    return result;

/* -- opening ---------------------------------------------------------------------------------------------------------- */

static int open_at(int folder, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    int known = armed && path_at(folder, name, path);
    int changes = flags & (O_CREAT | O_TRUNC);
    struct stat before;
    int was = known && changes && syscall(SYS_newfstatat, folder, name, &before, 0) == 0;
    int kind = changes && (!was || (flags & O_TRUNC)) ? CREATE : OPEN;
    PASS(kind, known, syscall(SYS_openat, folder, name, flags, mode), write_down(kind, path, 0, flags, was, 0, 0))
}
#define MODE_ARGUMENT                                                                                                    \
    mode_t mode = 0;                                                                                                     \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); }
int open(const char *name, int flags, ...) { MODE_ARGUMENT return open_at(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE_ARGUMENT return open_at(AT_FDCWD, name, flags, mode); }
int openat(int folder, const char *name, int flags, ...) { MODE_ARGUMENT return open_at(folder, name, flags, mode); }
int openat64(int folder, const char *name, int flags, ...) { MODE_ARGUMENT return open_at(folder, name, flags, mode); }

/* -- data ------------------------------------------------------------------------------------------------------------- */

static ssize_t put(int fd, const void *data, size_t size, off_t offset, int positioned) {
    char path[PATH_MAX];
    int known = armed && path_of(fd, path);
    int strike = known ? strikes(WRITE) : -1;
    if (strike == 1) return -1;
    if (strike == 2) size = size > 1 ? size / 2 : size;
    off_t where = offset;
    if (known && !positioned) {
        struct stat status;
        where = syscall(SYS_fcntl, fd, F_GETFL) & O_APPEND ? (syscall(SYS_fstat, fd, &status), status.st_size)
                                                            : syscall(SYS_lseek, fd, 0, SEEK_CUR);
    }
    ssize_t done = positioned ? syscall(SYS_pwrite64, fd, data, size, offset) : syscall(SYS_write, fd, data, size);
    if (known) write_down(WRITE, path, 0, done < 0 ? FAILED : 0, where, data, done < 0 ? 0 : done);
    if (strike == 2) torn();
    return done;
}
ssize_t write(int fd, const void *data, size_t size) { return put(fd, data, size, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return put(fd, data, size, offset, 1); }
ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset) { return put(fd, data, size, offset, 1); }

#define ON_DESCRIPTOR(kind, call, done)                                                                                  \
    char path[PATH_MAX];                                                                                                 \
    int known = armed && path_of(fd, path);                                                                              \
    PASS(kind, known, call, done)
ssize_t read(int fd, void *data, size_t size) { ON_DESCRIPTOR(READ, syscall(SYS_read, fd, data, size), write_down(READ, path, 0, 0, 0, 0, 0)) }
ssize_t pread(int fd, void *data, size_t size, off_t offset) { ON_DESCRIPTOR(READ, syscall(SYS_pread64, fd, data, size, offset), write_down(READ, path, 0, 0, 0, 0, 0)) }
ssize_t pread64(int fd, void *data, size_t size, off_t offset) { ON_DESCRIPTOR(READ, syscall(SYS_pread64, fd, data, size, offset), write_down(READ, path, 0, 0, 0, 0, 0)) }
int fsync(int fd) { ON_DESCRIPTOR(FSYNC, syscall(SYS_fsync, fd), write_down(FSYNC, path, 0, 0, 0, 0, 0)) }
int fdatasync(int fd) { ON_DESCRIPTOR(FSYNC, syscall(SYS_fdatasync, fd), write_down(FSYNC, path, 0, 0, 0, 0, 0)) }
int ftruncate(int fd, off_t size) { ON_DESCRIPTOR(TRUNCATE, syscall(SYS_ftruncate, fd, size), write_down(TRUNCATE, path, 0, 0, size, 0, 0)) }
int ftruncate64(int fd, off_t size) { ON_DESCRIPTOR(TRUNCATE, syscall(SYS_ftruncate, fd, size), write_down(TRUNCATE, path, 0, 0, size, 0, 0)) }
int fallocate(int fd, int mode, off_t offset, off_t size) { ON_DESCRIPTOR(ALLOCATE, syscall(SYS_fallocate, fd, mode, offset, size), write_down(ALLOCATE, path, 0, 0, 0, 0, 0)) }
int fallocate64(int fd, int mode, off_t offset, off_t size) { return fallocate(fd, mode, offset, size); }
int fchmod(int fd, mode_t mode) { ON_DESCRIPTOR(MODE, syscall(SYS_fchmod, fd, mode), write_down(MODE, path, 0, 0, 0, 0, 0)) }
/* The kernel copies past this library: callers fall back on read and write. */
ssize_t sendfile(int out, int in, off_t *offset, size_t size) { if (armed) { errno = ENOTSOCK; return -1; } return syscall(SYS_sendfile, out, in, offset, size); }
ssize_t sendfile64(int out, int in, off_t *offset, size_t size) { return sendfile(out, in, offset, size); }
ssize_t copy_file_range(int in, off_t *from, int out, off_t *to, size_t size, unsigned flags) { if (armed) { errno = EXDEV; return -1; } return syscall(SYS_copy_file_range, in, from, out, to, size, flags); }

/* -- names ------------------------------------------------------------------------------------------------------------ */

#define ON_NAME(kind, folder, name, call, done)                                                                          \
    char path[PATH_MAX];                                                                                                 \
    int known = armed && path_at(folder, name, path);                                                                    \
    PASS(kind, known, call, done)
static int rename_at(int from, const char *old, int to, const char *new, unsigned flags) {
    char path[PATH_MAX], other[PATH_MAX];
    int known = armed && path_at(from, old, path) && path_at(to, new, other);
    PASS(RENAME, known, syscall(SYS_renameat2, from, old, to, new, flags), write_down(RENAME, path, other, 0, 0, 0, 0))
}
int rename(const char *old, const char *new) { return rename_at(AT_FDCWD, old, AT_FDCWD, new, 0); }
int renameat(int from, const char *old, int to, const char *new) { return rename_at(from, old, to, new, 0); }
int renameat2(int from, const char *old, int to, const char *new, unsigned flags) { return rename_at(from, old, to, new, flags); }
int linkat(int from, const char *old, int to, const char *new, int flags) {
    char path[PATH_MAX], other[PATH_MAX];
    int known = armed && path_at(from, old, path) && path_at(to, new, other);
    PASS(LINK, known, syscall(SYS_linkat, from, old, to, new, flags), write_down(LINK, path, other, 0, 0, 0, 0))
}
int link(const char *old, const char *new) { return linkat(AT_FDCWD, old, AT_FDCWD, new, 0); }
int unlinkat(int folder, const char *name, int flags) {
    int kind = flags & AT_REMOVEDIR ? RMDIR : UNLINK;
    ON_NAME(kind, folder, name, syscall(SYS_unlinkat, folder, name, flags), write_down(kind, path, 0, 0, 0, 0, 0))
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int remove(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }
int mkdirat(int folder, const char *name, mode_t mode) { ON_NAME(MKDIR, folder, name, syscall(SYS_mkdirat, folder, name, mode), write_down(MKDIR, path, 0, 0, 0, 0, 0)) }
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }
int truncate(const char *name, off_t size) { ON_NAME(TRUNCATE, AT_FDCWD, name, syscall(SYS_truncate, name, size), write_down(TRUNCATE, path, 0, 0, size, 0, 0)) }
int truncate64(const char *name, off_t size) { return truncate(name, size); }
int utimensat(int folder, const char *name, const struct timespec times[2], int flags) { ON_NAME(UTIME, folder, name, syscall(SYS_utimensat, folder, name, times, flags), write_down(UTIME, path, 0, 0, 0, 0, 0)) }
int futimens(int fd, const struct timespec times[2]) { ON_DESCRIPTOR(UTIME, syscall(SYS_utimensat, fd, 0, times, 0), write_down(UTIME, path, 0, 0, 0, 0, 0)) }

/* -- looking ---------------------------------------------------------------------------------------------------------- */

static int stat_at(int folder, const char *name, struct stat *status, int flags) {
    ON_NAME(STAT, folder, name, syscall(SYS_newfstatat, folder, name, status, flags), write_down(STAT, path, 0, 0, 0, 0, 0))
}
int stat(const char *name, struct stat *status) { return stat_at(AT_FDCWD, name, status, 0); }
int stat64(const char *name, struct stat64 *status) { return stat_at(AT_FDCWD, name, (struct stat *)status, 0); }
int lstat(const char *name, struct stat *status) { return stat_at(AT_FDCWD, name, status, AT_SYMLINK_NOFOLLOW); }
int lstat64(const char *name, struct stat64 *status) { return stat_at(AT_FDCWD, name, (struct stat *)status, AT_SYMLINK_NOFOLLOW); }
int fstatat(int folder, const char *name, struct stat *status, int flags) { return stat_at(folder, name, status, flags); }
int fstatat64(int folder, const char *name, struct stat64 *status, int flags) { return stat_at(folder, name, (struct stat *)status, flags); }
int fstat(int fd, struct stat *status) { ON_DESCRIPTOR(STAT, syscall(SYS_fstat, fd, status), write_down(STAT, path, 0, 0, 0, 0, 0)) }
int fstat64(int fd, struct stat64 *status) { return fstat(fd, (struct stat *)status); }
int faccessat(int folder, const char *name, int mode, int flags) { ON_NAME(ACCESS, folder, name, syscall(SYS_faccessat, folder, name, mode), write_down(ACCESS, path, 0, 0, 0, 0, 0)) }
int access(const char *name, int mode) { return faccessat(AT_FDCWD, name, mode, 0); }
DIR *opendir(const char *name) {
    char path[PATH_MAX];
    int strike = armed && path_at(AT_FDCWD, name, path) ? strikes(LIST) : -1;
    if (strike == 1) return NULL;
    DIR *result = REAL(opendir)(name);
    if (strike >= 0) write_down(LIST, path, 0, result ? 0 : FAILED, 0, 0, 0);
    if (strike == 2) torn();
    return result;
}

/* -- the clock -------------------------------------------------------------------------------------------------------- */

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    int64_t offset = __atomic_load_n(&clock_offset_ns, __ATOMIC_SEQ_CST);
    if (result == 0 && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t ns = (int64_t)time->tv_sec * 1000000000 + time->tv_nsec + offset;
        time->tv_sec = ns / 1000000000, time->tv_nsec = ns % 1000000000;
    }
    return result;
}
time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    now->tv_sec = time.tv_sec, now->tv_usec = time.tv_nsec / 1000;
    return 0;
}
