/* tests/support/pg.h - a PostgreSQL server of a test's own: a fresh cluster in a folder, reached by
 * a socket there and nothing else. */
#ifndef STROBE_TESTS_SUPPORT_PG_H
#define STROBE_TESTS_SUPPORT_PG_H

#include <stdbool.h>
#include <sys/types.h>

struct pg {
    pid_t pid;
    char dir[256];
    char url[600]; /* postgresql://...: for the store */
};
/* false, and "SKIPPED: ..." on stderr, where the programs are missing; false with `broken` set when
 * they are there and do not work. */
bool pg_start(struct pg *p, const char *test, bool *broken);
void pg_stop(struct pg *p);
/* Stops the server as an operator does (connections are cut), and starts it over the same data. */
bool pg_halt(struct pg *p);
bool pg_again(struct pg *p);

#endif
