/* A wall clock that is set by a file: preloaded into a process, adds the nanoseconds that stand in STORM_CLOCK (a signed
 * 64-bit number) to the real time. It calls the kernel itself and allocates nothing, so that it may be called before
 * everything else, as jemalloc does. What counts from boot is left alone. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
static const volatile int64_t *offset_ns;
static const char name[] = "STORM_CLOCK=";

static int64_t offset(void) {
    if (!offset_ns && environ) {
        for (char **entry = environ; *entry; entry++) {
            size_t at = 0;
            while (at < sizeof name - 1 && (*entry)[at] == name[at]) at++;
            if (at < sizeof name - 1) continue;
            long fd = syscall(SYS_openat, AT_FDCWD, *entry + at, O_RDONLY | O_CLOEXEC, 0);
            if (fd < 0) return 0;
            long found = syscall(SYS_mmap, NULL, 8, PROT_READ, MAP_SHARED, fd, 0);
            syscall(SYS_close, fd);
            if (found > 0) offset_ns = (const volatile int64_t *)found;
            break;
        }
    }
    return offset_ns ? *offset_ns : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (syscall(SYS_clock_gettime, clock, now)) return -1;
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) {
        int64_t ns = now->tv_sec * 1000000000LL + now->tv_nsec + offset();
        now->tv_sec = ns / 1000000000LL;
        now->tv_nsec = ns % 1000000000LL;
    }
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now) *now = exact.tv_sec;
    return exact.tv_sec;
}
