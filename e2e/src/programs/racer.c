/* Races the start of other processes: a container with CAP_SYS_PTRACE that looks at every process
 * it can see for something of the host. Prints "racing", a line "FOUND ..." per finding, and
 * "done N" with the number of processes it has looked at once /tmp/stop exists.
 *
 *   racer CANARY      CANARY is the path of a file that only the host has
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *canary;

static void found(const char *what, const char *more)
{
    printf("FOUND %s: %s\n", what, more);
    fflush(stdout);
}

static int link_target(const char *path, char *target, size_t size)
{
    ssize_t length = readlink(path, target, size - 1);
    if (length <= 0)
        return 0;
    target[length] = 0;
    return 1;
}

/* The host's file through a directory that the process has: its root, or a descriptor. */
static void look_through(const char *directory)
{
    char path[1024], text[64];
    snprintf(path, sizeof path, "%s%s", directory, canary);
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0)
        return;
    ssize_t length = read(file, text, sizeof text - 1);
    text[length > 0 ? length : 0] = 0;
    found(path, text);
    close(file);
}

/* The supervisor's program may be seen, since it is no secret, but never be changed
 * (CVE-2019-5736). */
static void look_at_program(int pid)
{
    char path[64], target[4096];
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    if (!link_target(path, target, sizeof target))
        return;
    if (!strstr(target, "memfd:")) {
        if (strstr(target, "insula"))
            found(path, target);
        return;
    }
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    /* Meanwhile it may have become the program that it was to run. */
    char opened[64];
    int seals = fcntl(file, F_GET_SEALS);
    snprintf(opened, sizeof opened, "/proc/self/fd/%d", file);
    if (link_target(opened, target, sizeof target) && strstr(target, "memfd:") &&
        (seals < 0 || !(seals & F_SEAL_WRITE)))
        found(path, "a program in memory without F_SEAL_WRITE");
    close(file);
}

/* The commands of the test open nothing: all they have are the pipes of their output and
 * /dev/null. Anything else is the host's. */
static void look_at_descriptors(int pid)
{
    char path[64], entry[512], target[4096];
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *directory = opendir(path);
    if (!directory)
        return;
    struct dirent *item;
    while ((item = readdir(directory))) {
        if (item->d_name[0] == '.')
            continue;
        snprintf(entry, sizeof entry, "%s/%s", path, item->d_name);
        if (!link_target(entry, target, sizeof target))
            continue;
        if (!strncmp(target, "pipe:", 5) || !strcmp(target, "/dev/null"))
            continue;
        found(entry, target);
        look_through(entry);
    }
    closedir(directory);
}

static void look(int pid)
{
    char root[64];
    snprintf(root, sizeof root, "/proc/%d/root", pid);
    look_through(root);
    snprintf(root, sizeof root, "/proc/%d/cwd", pid);
    look_through(root);
}

/* An attached process stands still: what it has can be looked at in peace. */
static void look_attached(int pid)
{
    int status;
    if (ptrace(PTRACE_SEIZE, pid, 0, 0) != 0)
        return;
    ptrace(PTRACE_INTERRUPT, pid, 0, 0);
    if (waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status)) {
        look(pid);
        look_at_program(pid);
        look_at_descriptors(pid);
        ptrace(PTRACE_DETACH, pid, 0, 0);
    }
}

int main(int argc, char **argv)
{
    static unsigned char known[4 << 20];
    int self = getpid();
    long looked = 0;
    if (argc < 2)
        return 2;
    canary = argv[1];
    DIR *processes = opendir("/proc");
    if (!processes)
        return 3;
    printf("racing\n");
    fflush(stdout);
    for (long round = 0; round % 64 || access("/tmp/stop", F_OK) != 0; round++) {
        struct dirent *item;
        rewinddir(processes);
        while ((item = readdir(processes))) {
            int pid = atoi(item->d_name);
            if (pid <= 0 || pid == self || pid >= (int)sizeof known)
                continue;
            look(pid);
            if (known[pid] && round % 64)
                continue;
            look_at_program(pid);
            look_at_descriptors(pid);
            if (!known[pid] && pid > 1 && ++looked % 3 == 0)
                look_attached(pid);
            known[pid] = 1;
        }
    }
    printf("done %ld\n", looked);
    return 0;
}
