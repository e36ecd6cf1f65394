/* Holds or fails the calls by which a program makes its writes durable: preloaded into the server by a test.
 *
 * In the folder that SYNC_GATE names: while `closed` is there, a call waits, after making `entered`; while `fail` is there,
 * it answers EIO. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int there(const char *name) {
    char path[4096];
    const char *folder = getenv("SYNC_GATE");
    if (!folder) return 0;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

static void make(const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("SYNC_GATE"), name);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    if (fd >= 0) close(fd);
}

static int gate(void) {
    if (there("closed")) {
        make("entered");
        while (there("closed")) usleep(1000);
    }
    if (there("fail")) {
        errno = EIO;
        return -1;
    }
    return 0;
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return gate() ? -1 : real(fd);
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return gate() ? -1 : real(fd);
}
