/* recsys/archive_parts.h - what archive*.c share. Nobody else includes it. */
#ifndef STROBE_RECSYS_ARCHIVE_PARTS_H
#define STROBE_RECSYS_ARCHIVE_PARTS_H

#include "recsys/archive.h"
#include "store/db.h"

enum { ARCHIVE_SIZES = 3, ARCHIVE_ROWS = 64 };

/* One statement text for each number of rows. */
struct archive_insert {
    struct buf sql[ARCHIVE_SIZES];
};

struct archive {
    struct db *db;
    char log[ARCHIVE_LOG_MAX];
    struct wal_pos at;
    uint64_t events, follows, keys; /* of the log so far, those that merged included */
    struct ids users, items;
    uint32_t user_rows, item_rows; /* of them, those in the tables */
    int64_t *last;                 /* [cap_last] of users: their latest event */
    uint32_t cap_last;
    struct archive_insert event, follow, user, item;
};

/* Room for `n` users' latest times. false: no memory. */
bool archive_users_room(struct archive *a, uint32_t n);

#endif
