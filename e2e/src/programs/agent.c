/* Answers for the system calls of containers (seccomp_unotify(2)): takes listeners on a socket,
 * one connection each, prints what it is told with them, and answers every call with an error;
 * with "continue", lets all but mkdir go on.
 *
 *   agent SOCKET [continue]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define MOST 64

static int go_on;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* Takes one listener and prints its state. */
static int take(int server)
{
    static char text[1 << 16];
    char control[CMSG_SPACE(sizeof(int))];
    struct iovec data = {text, sizeof text - 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1,
                             .msg_control = control, .msg_controllen = sizeof control};
    int client = accept4(server, NULL, NULL, SOCK_CLOEXEC), listener = -1;
    ssize_t length;

    if (client < 0)
        fail("accept4");
    length = recvmsg(client, &message, MSG_CMSG_CLOEXEC);
    if (length < 0)
        fail("recvmsg");
    if (CMSG_FIRSTHDR(&message))
        memcpy(&listener, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof listener);
    text[length] = 0;
    printf("TOLD %s\n", text);
    fflush(stdout);
    close(client);
    return listener;
}

static int makes_directory(int number)
{
#ifdef SYS_mkdir
    if (number == SYS_mkdir)
        return 1;
#endif
    return number == SYS_mkdirat;
}

static void answer(int listener)
{
    struct seccomp_notif asked;
    struct seccomp_notif_resp answer;

    memset(&asked, 0, sizeof asked);
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked) < 0)
        return; /* It was killed meanwhile. */
    memset(&answer, 0, sizeof answer);
    answer.id = asked.id;
    if (go_on && !makes_directory(asked.data.nr))
        answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    else
        answer.error = -EPROTO;
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct pollfd watched[MOST];
    int count = 1, i;

    if (argc < 2 || strlen(argv[1]) >= sizeof address.sun_path)
        return 2;
    go_on = argc > 2;
    strcpy(address.sun_path, argv[1]);
    watched[0].fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    watched[0].events = POLLIN;
    if (bind(watched[0].fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("bind");
    if (listen(watched[0].fd, 8) < 0)
        fail("listen");
    for (;;) {
        if (poll(watched, count, -1) < 0)
            fail("poll");
        for (i = count - 1; i > 0; i--) {
            if (watched[i].revents & POLLIN)
                answer(watched[i].fd);
            else if (watched[i].revents) { /* Nobody is filtered any more. */
                close(watched[i].fd);
                watched[i] = watched[--count];
            }
        }
        if (watched[0].revents && count < MOST) {
            watched[count].fd = take(watched[0].fd);
            watched[count].events = POLLIN;
            watched[count++].revents = 0;
        }
    }
}
