/* server/store.c - see store.h: opening, and the rows themselves. The statements are in
 * store_jobs.c.
 *
 * In the data directory lie strobe.lock, held (flock) while a server uses the directory, and, with
 * PostgreSQL, strobe.id: which of the database's jobs are this directory's. */
#include "engine/base/file.h"
#include "server/store_parts.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    APPLICATION_ID = 0x53545242, /* "STRB": other programs' files are left alone */
    WAIT_MS = 5000,
    OWNER_BYTES = 8
};

/* Step i leads from schema i to i + 1. Never edit one that was released: add another. */
static const char *const steps[] = {
    "CREATE TABLE jobs ("
    "  seq INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  id TEXT NOT NULL UNIQUE,"
    "  kind TEXT NOT NULL,"
    "  state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'cancelled', 'failed', 'done')),"
    "  created INTEGER NOT NULL,"
    "  started INTEGER NOT NULL DEFAULT 0,"
    "  finished INTEGER NOT NULL DEFAULT 0,"
    "  params TEXT NOT NULL,"
    "  progress TEXT, result TEXT, error TEXT,"
    "  cancel INTEGER NOT NULL DEFAULT 0,"
    "  resume INTEGER NOT NULL DEFAULT 0,"
    "  restarts INTEGER NOT NULL DEFAULT 0,"
    "  idle_tries INTEGER NOT NULL DEFAULT 0,"
    "  best_step INTEGER NOT NULL DEFAULT 0,"
    "  pid INTEGER NOT NULL DEFAULT 0,"
    "  pid_birth INTEGER NOT NULL DEFAULT 0,"
    "  owner TEXT NOT NULL DEFAULT '',"
    "  lease INTEGER NOT NULL DEFAULT 0,"
    "  request_key TEXT UNIQUE,"
    "  request_hash TEXT"
    ") STRICT;"
    "CREATE INDEX jobs_by_state ON jobs (state, seq);",
    /* 2: several data directories in one database. */
    "ALTER TABLE jobs ADD COLUMN place TEXT NOT NULL DEFAULT '';"
    "DROP INDEX jobs_by_state;"
    "CREATE INDEX jobs_by_place ON jobs (place, state, seq);",
};

/* ---- opening ---- */

static enum status lock_directory(struct store *s, const char *dir, struct err *err)
{
    char path[FILE_PATH_MAX];
    if (file_path(path, err, "%s/strobe.lock", dir) != ST_OK)
        return err->code;
    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (s->lock_fd < 0) {
        err_sys(err, errno, "open");
        return err_ctx(err, "lock file of the data directory");
    }
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) != 0)
        err_set(err, ST_BUSY,
                "another server uses this data directory and runs its jobs: "
                "give this one its own with --data DIR");
    return err->code;
}

/* out: 2 n + 1 bytes. */
static enum status random_hex(char *out, size_t n, struct err *err)
{
    unsigned char r[STORE_PLACE_BYTES];
    assert(n <= sizeof r);
    if (getrandom(r, n, 0) != (ssize_t)n)
        return err_sys(err, errno, "getrandom");
    for (size_t i = 0; i < n; i++)
        snprintf(out + 2 * i, 3, "%02x", r[i]);
    return ST_OK;
}

/* A copy of the directory has another inode, another machine another boot: whoever had this name
 * before held the lock that we hold now. */
static enum status name_owner(struct store *s, const char *dir, struct err *err)
{
    struct err none = ERR_INIT;
    struct stat st;
    struct buf boot = BUF_INIT;
    char r[2 * OWNER_BYTES + 1];
    if (random_hex(r, OWNER_BYTES, err) != ST_OK)
        return err->code;
    if (file_slurp("/proc/sys/kernel/random/boot_id", 64, &boot, &none) == ST_OK &&
        stat(dir, &st) == 0) {
        struct str b = str_trim(buf_view(&boot));
        snprintf(s->host, sizeof s->host, "%.*s.%llx.%llx.", (int)(b.n < 36 ? b.n : 36), b.p,
                 (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
    } else { /* then nobody is declared dead */
        snprintf(s->host, sizeof s->host, "%s.", r);
    }
    buf_clear(&boot);
    if (none.code == ST_NOMEM)
        return err_set(err, ST_NOMEM, "job database");
    snprintf(s->owner, sizeof s->owner, "%s%s", s->host, r);
    return ST_OK;
}

static bool is_place(struct str s)
{
    bool ok = s.n == 2 * STORE_PLACE_BYTES;
    for (size_t i = 0; i < s.n && ok; i++)
        ok = (s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] >= 'a' && s.p[i] <= 'f');
    return ok;
}

/* Under the directory's lock: nobody else makes it meanwhile. */
static enum status read_place(struct store *s, const char *dir, struct err *err)
{
    struct err mine = ERR_INIT; /* names the path, which clients are not told */
    char path[FILE_PATH_MAX];
    struct buf b = BUF_INIT;
    struct stat st;
    if (file_path(path, &mine, "%s/strobe.id", dir) == ST_OK && stat(path, &st) != 0 &&
        errno == ENOENT) {
        if (random_hex(s->place, STORE_PLACE_BYTES, &mine) == ST_OK) {
            buf_printf(&b, "%s\n", s->place);
            if (buf_ok(&b, "job database", &mine) == ST_OK)
                file_replace(path, buf_view(&b), &mine);
        }
    } else if (mine.code == ST_OK && file_slurp(path, 256, &b, &mine) == ST_OK) {
        struct str id = str_trim(buf_view(&b));
        if (is_place(id))
            memcpy(s->place, id.p, id.n); /* ends with NUL: it was zero */
        else
            err_set(err, ST_FORMAT,
                    "strobe.id of the data directory is damaged: it has 32 hexadecimal digits "
                    "(column place of the table jobs)");
    }
    buf_clear(&b);
    if (mine.code != ST_OK)
        err_set(err, mine.code, "strobe.id of the data directory cannot be %s",
                s->place[0] ? "written" : "read");
    return err->code;
}

/* Made here, so that it and what SQLite puts beside it are for nobody else. */
static enum status make_file(const char *file, struct err *err)
{
    int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        err_sys(err, errno, "open");
        return err_ctx(err, "job database");
    }
    close(fd);
    return ST_OK;
}

static enum status make_sqlite(const char *url, const char *dir, struct err *err)
{
    char path[FILE_PATH_MAX];
    if (url)
        return make_file(url + strlen("sqlite:"), err);
    if (file_path(path, err, "%s/strobe.db", dir) != ST_OK)
        return err->code;
    return make_file(path, err);
}

/* We hold the directory's lock: whoever ran these is dead. In a database of several, only who ran
 * on this machine, from this directory. */
static enum status void_leases(struct store *s, struct err *err)
{
    char ours[sizeof s->host + 1];
    snprintf(ours, sizeof ours, "%s%%", s->db->shared ? s->host : "");
    struct db_value v[] = { db_z(s->place), db_z(ours) };
    return db_run(s->db,
                  "UPDATE jobs SET lease = 0, owner = '' WHERE place = ?1 AND state = 'running' AND"
                  " owner LIKE ?2",
                  v, 2, NULL, NULL, NULL, err);
}

static bool is_postgres(const char *url)
{
    struct str s = str_c(url);
    return str_starts(s, STR("postgres://")) || str_starts(s, STR("postgresql://"));
}

bool store_url_ok(const char *url)
{
    return db_url_ok(url);
}

/* No more of the URL than its start: what follows may hold a password. */
static enum status check_url(const char *url, struct err *err)
{
    if (!url || store_url_ok(url))
        return ST_OK;
    return err_set(err, ST_UNSUPPORTED,
                   "--store: '%.*s...' is neither sqlite:FILE nor postgresql://USER@HOST/NAME",
                   (int)strcspn(url, ":/@") < 30 ? (int)strcspn(url, ":/@") : 30, url);
}

static enum status open_all(struct store *s, const struct store_opts *o, struct err *err)
{
    const char *url = o->url && o->url[0] ? o->url : NULL;
    struct db_opts d = { .url = url,
                         .dir = o->dir,
                         .file = "strobe.db",
                         .wait_ms = o->wait_ms ? o->wait_ms : WAIT_MS,
                         .app = APPLICATION_ID,
                         .what = "job database",
                         .schema = "strobe_jobs_schema",
                         .check = true,
                         .no_path = true,
                         .step = steps,
                         .n_step = sizeof steps / sizeof steps[0] };
    bool shared = url && is_postgres(url);
    if (check_url(url, err) != ST_OK || lock_directory(s, o->dir, err) != ST_OK ||
        name_owner(s, o->dir, err) != ST_OK)
        return err->code;
    if ((shared ? read_place(s, o->dir, err) : make_sqlite(url, o->dir, err)) == ST_OK &&
        db_open(&d, &s->db, err) == ST_OK)
        void_leases(s, err);
    return err->code;
}

enum status store_open(const struct store_opts *o, struct store **ret, struct err *err)
{
    struct store *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ST_NOMEM, "job database");
    s->lock_fd = -1;
    if (open_all(s, o, err) == ST_OK)
        *ret = s;
    else
        store_close(s);
    return err->code;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    db_close(s->db);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    free(s);
}

bool store_shared(const struct store *s)
{
    return s->db->shared;
}

/* ---- rows ---- */

const char *job_state_name(enum job_state s)
{
    static const char *const names[JOB_STATES] = { "queued", "running", "cancelled", "failed",
                                                   "done" };
    return names[s];
}

bool job_row_text(char **slot, struct str text)
{
    char *copy = str_dup(text);
    if (!copy)
        return false;
    free(*slot);
    *slot = copy;
    return true;
}

void job_row_clear(struct job_row *r)
{
    free(r->params);
    free(r->progress);
    free(r->result);
    free(r->error);
    *r = (struct job_row){ 0 };
}

enum status job_row_copy(const struct job_row *r, struct job_row *ret, struct err *err)
{
    struct job_row c = *r;
    const char *const from[] = { r->params, r->progress, r->result, r->error };
    char **const to[] = { &c.params, &c.progress, &c.result, &c.error };
    bool ok = true;
    for (size_t i = 0; i < 4; i++) {
        *to[i] = from[i] ? str_dup(str_c(from[i])) : NULL;
        ok &= !from[i] || *to[i];
    }
    if (!ok) {
        job_row_clear(&c);
        return err_set(err, ST_NOMEM, "job %s", r->id);
    }
    *ret = c;
    return ST_OK;
}

void job_list_clear(struct job_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        job_row_clear(&l->row[i]);
    free(l->row);
    *l = (struct job_list){ 0 };
}
