/* tests/unit/server/store_rig.h - a job database of a test's own, in SQLite or PostgreSQL, and what
 * it promises over both. */
#ifndef STROBE_TESTS_STORE_RIG_H
#define STROBE_TESTS_STORE_RIG_H

#include "server/store.h"

extern char rig_dir[64], rig_file[96]; /* of the server; its SQLite file */
extern const char *rig_url;            /* of PostgreSQL; NULL: SQLite in rig_dir */
extern uint32_t rig_wait_ms;

void rig_setup(void); /* the directory */
void rig_teardown(void);
void rig_fresh(void);

enum status rig_try_open(struct store **ret, struct err *err);
enum status rig_try_open_in(const char *dir, struct store **ret, struct err *err);
struct store *rig_open_store(void);
struct store *rig_open_in(const char *dir);
/* known, out: NULL, or take what store_job_add() says. */
enum status rig_add(struct store *s, const char *id, const char *key, const char *hash, bool *known,
                    struct job_row *out, struct err *err);
void rig_must_add(struct store *s, const char *id);
enum job_state rig_state_in(struct store *s, const char *id);
/* One statement by another program. */
void rig_other(const char *sql);
void rig_other_in_postgres(const char *url, const char *sql);
/* Every promise, one after the other. */
void rig_run_both(void);

#endif
