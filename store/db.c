/* store/db.c - chooses the database by URL. See db.h. */
#include "store/db.h"

#include "engine/base/file.h"

#include <stdlib.h>
#include <time.h>

/* The part of a URL that may be shown: no password. */
static void shown(const char *url, char out[80])
{
    const char *at = strrchr(url, '@'), *scheme = strstr(url, "://");
    if (at && scheme && at > scheme)
        snprintf(out, 80, "%.*s://...@%s", (int)(scheme - url < 20 ? scheme - url : 20), url,
                 at + 1);
    else
        snprintf(out, 80, "%s", url);
}

bool db_url_ok(const char *url)
{
    struct str s = str_c(url);
    return str_starts(s, STR("sqlite:")) || str_starts(s, STR("postgres://")) ||
           str_starts(s, STR("postgresql://"));
}

enum status db_open(const struct db_opts *o, struct db **ret, struct err *err)
{
    char path[FILE_PATH_MAX], safe[80];
    if (!o->url) {
        if (file_path(path, err, "%s/%s", o->dir, o->file) != ST_OK)
            return err->code;
        return db_sqlite_open(path, o, ret, err);
    }
    struct str url = str_c(o->url);
    if (str_starts(url, STR("sqlite:")))
        return db_sqlite_open(o->url + strlen("sqlite:"), o, ret, err);
    if (str_starts(url, STR("postgres://")) || str_starts(url, STR("postgresql://")))
        return db_postgres_open(o->url, o, ret, err);
    shown(o->url, safe);
    return err_set(err, ST_UNSUPPORTED,
                   "%s: '%s' is neither sqlite:FILE nor postgres://USER@HOST/NAME", o->what, safe);
}

void db_close(struct db *db)
{
    if (db)
        db->ops->close(db);
}

enum status db_run(struct db *db, const char *sql, const struct db_value *v, int n, db_row_fn *fn,
                   void *ctx, int64_t *changed, struct err *err)
{
    return db->ops->run(db, sql, v, n, fn, ctx, changed, err);
}

enum status db_begin(struct db *db, struct err *err)
{
    return db->ops->begin(db, err);
}

enum status db_end(struct db *db, struct err *err)
{
    struct err ignored = ERR_INIT;
    if (err->code == ST_OK)
        db->ops->end(db, true, err);
    else
        db->ops->end(db, false, &ignored);
    return err->code;
}

void db_lazy(struct db *db, bool on)
{
    if (db->ops->lazy)
        db->ops->lazy(db, on);
}

int64_t db_now_ms(const struct db *db)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000 + db->clock_skew_ms;
}
