/* Sleeps until it is told to end: the whole of the pause image. */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static void leave(int signal) {
	(void)signal;
	_exit(0);
}

int main(void) {
	signal(SIGINT, leave);
	signal(SIGTERM, leave);
	for (;;)
		pause();
}
