/* server/store_parts.h - what store.c and store_jobs.c share. Nobody else includes it. */
#ifndef STROBE_SERVER_STORE_PARTS_H
#define STROBE_SERVER_STORE_PARTS_H

#include "server/store.h"
#include "store/db.h"

enum { STORE_PLACE_BYTES = 16, STORE_OWNER_MAX = 128 };

struct store {
    struct db *db;
    int lock_fd;
    char place[2 * STORE_PLACE_BYTES + 1]; /* column `place` of our jobs; "" with SQLite */
    char host[STORE_OWNER_MAX - 40];       /* this boot and this directory: start of the owner */
    char owner[STORE_OWNER_MAX];
};

#endif
