/* server/store.c - see store.h: chooses the database by URL, and the rows themselves. */
#include "server/store.h"

#include "server/store_ops.h"

#include <assert.h>
#include <stdlib.h>

enum status store_open(const struct store_opts *o, struct store **ret, struct err *err)
{
    struct str url = str_c(o->url);
    struct buf file = BUF_INIT;
    if (str_starts(url, STR("postgres://")) || str_starts(url, STR("postgresql://")))
        return err_set(err, ST_UNSUPPORTED, "--store: this build has no PostgreSQL, only sqlite:");
    if (url.n && !str_starts(url, STR("sqlite:")))
        return err_set(err, ST_UNSUPPORTED, "--store: '%.100s' is not sqlite:FILE", o->url);
    if (url.n)
        buf_z(&file, o->url + strlen("sqlite:"));
    else
        buf_printf(&file, "%s/strobe.db", o->dir);
    if (buf_ok(&file, "job database", err) == ST_OK)
        store_sqlite_open(file.p, o, ret, err);
    buf_clear(&file);
    return err->code;
}

void store_close(struct store *s)
{
    if (s)
        s->ops->close(s);
}

enum status store_job_add(struct store *s, struct job_row *row, const char *key, const char *hash,
                          bool *known, struct err *err)
{
    assert(row->id[0] && row->kind[0] && row->params && (!key || hash));
    return s->ops->job_add(s, row, key, hash, known, err);
}

enum status store_job_get(struct store *s, const char *id, struct job_row *ret, struct err *err)
{
    return s->ops->job_get(s, id, ret, err);
}

enum status store_job_list(struct store *s, const char *after, uint32_t limit, struct job_list *ret,
                           struct err *err)
{
    return s->ops->job_list(s, after, limit, ret, err);
}

enum status store_job_claim(struct store *s, int64_t now, struct job_row *ret, struct err *err)
{
    return s->ops->job_claim(s, now, ret, err);
}

enum status store_job_save(struct store *s, const struct job_row *row, int64_t now, struct err *err)
{
    return s->ops->job_save(s, row, now, err);
}

enum status store_job_cancel(struct store *s, const char *id, int64_t now, struct job_row *ret,
                             struct err *err)
{
    return s->ops->job_cancel(s, id, now, ret, err);
}

enum status store_job_renew(struct store *s, int64_t now, struct err *err)
{
    return s->ops->job_renew(s, now, err);
}

enum status store_job_counts(struct store *s, uint64_t counts[JOB_STATES], struct err *err)
{
    return s->ops->job_counts(s, counts, err);
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
