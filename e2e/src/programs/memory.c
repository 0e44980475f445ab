/* Takes memory: memory MEBIBYTES [hold]. Touches every page, says so, and with "hold" stays. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    size_t size = (size_t)atol(argc > 1 ? argv[1] : "1") << 20;
    char *memory = malloc(size);
    if (!memory)
        return 3;
    for (size_t at = 0; at < size; at += 4096)
        memory[at] = (char)at + 1;
    printf("took %zu\n", size);
    fflush(stdout);
    if (argc > 2 && !strcmp(argv[2], "hold"))
        pause();
    return memory[size / 2] == 0;
}
