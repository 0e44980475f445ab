/* Makes system calls that filters speak of, and prints a line for each: its name and the error it
 * gave, 0 for none. With arguments only those of these names. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static long call(const char *name)
{
    if (!strcmp(name, "unshare"))
        return syscall(SYS_unshare, CLONE_NEWUTS);
    if (!strcmp(name, "keyctl"))
        return syscall(SYS_keyctl, 0 /* KEYCTL_GET_KEYRING_ID */, -3, 0, 0, 0);
    if (!strcmp(name, "bpf"))
        return syscall(SYS_bpf, -1, 0, 0);
    if (!strcmp(name, "socket-alg"))
        return socket(38, SOCK_SEQPACKET, 0);
    if (!strcmp(name, "socket-vsock"))
        return socket(40, SOCK_STREAM, 0);
    if (!strcmp(name, "socket-unix"))
        return socket(AF_UNIX, SOCK_STREAM, 0);
    if (!strcmp(name, "clone-user"))
        return syscall(SYS_clone, CLONE_NEWUSER | 17, 0, 0, 0, 0);
    if (!strcmp(name, "clone3"))
        return syscall(SYS_clone3, 0, 0);
    if (!strcmp(name, "sethostname"))
        return sethostname("changed", 7);
    if (!strcmp(name, "personality"))
        return personality(0xffffffff) == -1 ? -1 : 0;
    if (!strcmp(name, "personality-randomize"))
        return personality(0x0040000);
    if (!strcmp(name, "newest"))
        return syscall(600);
#ifdef __x86_64__
    if (!strcmp(name, "socketcall-alg")) {
        /* From a place that 32-bit pointers reach: the 32-bit door of a 64-bit program. */
        static int arguments[3] = {38, SOCK_SEQPACKET, 0};
        long result;
        __asm__ volatile("int $0x80"
                         : "=a"(result)
                         : "a"(102L), "b"(1L), "c"((long)arguments)
                         : "memory", "r8", "r9", "r10", "r11");
        errno = result < 0 ? -result : 0;
        return result < 0 ? -1 : result;
    }
#endif
    errno = EINVAL;
    return -1;
}

int main(int argc, char **argv)
{
    for (int at = 1; at < argc; at++) {
        errno = 0;
        long result = call(argv[at]);
        if (!result && !strcmp(argv[at], "clone-user"))
            _exit(0);
        printf("%s %s\n", argv[at], result < 0 ? strerrorname_np(errno) : "0");
        fflush(stdout);
    }
    return 0;
}
