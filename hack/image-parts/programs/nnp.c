/* Says as whom it runs: setuid root in its image, so that no_new_privs makes a difference. */
#include <stdio.h>
#include <unistd.h>

int main(void) {
	printf("Effective uid: %d\n", (int)geteuid());
	return 0;
}
