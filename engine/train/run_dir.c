/* engine/train/run_dir.c - see run_dir.h. */
#include "engine/train/run_dir.h"

#include "engine/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <float.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { JSON_MAX = 16 << 20, TAIL_BYTES = 64 << 10 };

struct run_dir {
    char *path;
    int lock, log;
    char log_path[FILE_PATH_MAX];
};

static enum status fail(int os, const char *call, const char *path, struct err *err)
{
    err_sys(err, os, call);
    return err_ctx(err, "'%s'", path);
}

static enum status take_lock(struct run_dir *r, struct err *err)
{
    char path[FILE_PATH_MAX];
    if (file_path(path, err, "%s/lock", r->path) != ST_OK)
        return err->code;
    r->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (r->lock < 0)
        return fail(errno, "open", path, err);
    if (flock(r->lock, LOCK_EX | LOCK_NB) == 0)
        return ST_OK;
    if (errno == EWOULDBLOCK)
        return err_set(err, ST_BUSY, "another process trains in '%s'", r->path);
    return fail(errno, "flock", path, err);
}

enum status run_dir_open(const char *path, struct run_dir **ret, struct err *err)
{
    if (file_make_dirs(path, 0755, err) != ST_OK)
        return err->code;
    struct run_dir *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(err, ST_NOMEM, "'%s'", path);
    r->lock = r->log = -1;
    r->path = str_dup(str_c(path));
    if (!r->path)
        err_set(err, ST_NOMEM, "'%s'", path);
    else if (take_lock(r, err) == ST_OK) {
        *ret = r;
        return ST_OK;
    }
    run_dir_close(r);
    return err->code;
}

void run_dir_close(struct run_dir *r)
{
    if (!r)
        return;
    if (r->log >= 0)
        close(r->log);
    if (r->lock >= 0)
        close(r->lock);
    free(r->path);
    free(r);
}

const char *run_dir_path(const struct run_dir *r)
{
    return r->path;
}

bool run_dir_has(const struct run_dir *r, const char *name)
{
    char path[FILE_PATH_MAX];
    struct err ignored = ERR_INIT;
    return file_path(path, &ignored, "%s/%s", r->path, name) == ST_OK && access(path, F_OK) == 0;
}

enum status run_dir_put_json(const struct run_dir *r, const char *name, json_t *doc,
                             struct err *err)
{
    char path[FILE_PATH_MAX];
    struct buf text = BUF_INIT;
    if (!doc)
        err_set(err, ST_NOMEM, "'%s/%s'", r->path, name);
    else if (file_path(path, err, "%s/%s", r->path, name) == ST_OK &&
             json_write(doc, &text, err) == ST_OK) {
        buf_char(&text, '\n');
        if (buf_ok(&text, path, err) == ST_OK)
            file_replace(path, buf_view(&text), err);
    }
    json_free(doc);
    buf_clear(&text);
    return err->code;
}

enum status run_dir_get_json(const struct run_dir *r, const char *name, json_t **ret,
                             struct err *err)
{
    char path[FILE_PATH_MAX];
    struct buf text = BUF_INIT;
    if (file_path(path, err, "%s/%s", r->path, name) == ST_OK &&
        file_slurp(path, JSON_MAX, &text, err) == ST_OK)
        json_parse_unique(buf_view(&text), path, ret, err);
    buf_clear(&text);
    return err->code;
}

/* ---- the log ---- */

/* *good: the line tells a step; anything else is what a crash left. Errors: ST_NOMEM. */
static enum status parse_line(struct str line, struct run_tail *ret, bool *good, struct err *err)
{
    struct err e = ERR_INIT;
    json_t *doc = NULL;
    struct run_tail t = { 0 };
    int64_t step = 0;
    *good = json_parse(line, "metrics", &doc, &e) == ST_OK && json_is_object(doc) &&
            json_get_i64(doc, "step", true, 0, INT64_MAX, &step, &e) == ST_OK &&
            json_get_f64(doc, "seconds", true, 0, DBL_MAX, &t.seconds, &e) == ST_OK &&
            json_get_f64(doc, "dollars", true, 0, DBL_MAX, &t.dollars, &e) == ST_OK;
    json_free(doc);
    if (e.code == ST_NOMEM)
        *err = e;
    t.step = (uint64_t)step;
    if (*good)
        *ret = t;
    return err->code;
}

/* *keep: length of the text up to its last whole line that parses; 0: none does. */
static enum status whole_lines(struct str text, struct run_tail *ret, size_t *keep, struct err *err)
{
    size_t end = text.n;
    bool good = false;
    *keep = 0;
    while (!good) {
        while (end > 0 && text.p[end - 1] != '\n')
            end--;
        if (end == 0)
            return ST_OK;
        size_t start = end - 1;
        while (start > 0 && text.p[start - 1] != '\n')
            start--;
        if (parse_line((struct str){ text.p + start, end - 1 - start }, ret, &good, err) != ST_OK)
            return err->code;
        *keep = good ? end : 0;
        end = start;
    }
    return ST_OK;
}

/* Cuts off what is behind the last whole line of the file's last bytes, from `from` on. */
static enum status cut_tail(struct run_dir *r, off_t from, struct str text, struct run_tail *ret,
                            struct err *err)
{
    size_t keep;
    if (whole_lines(text, ret, &keep, err) != ST_OK)
        return err->code;
    if (keep == 0 && from > 0)
        return err_set(err, ST_FORMAT, "'%s' is no log of a run: its last %zu bytes hold no line",
                       r->log_path, text.n);
    if (keep < text.n && ftruncate(r->log, from + (off_t)keep) != 0)
        return fail(errno, "truncate", r->log_path, err);
    return ST_OK;
}

static enum status read_tail(struct run_dir *r, struct run_tail *ret, struct err *err)
{
    struct stat st;
    if (fstat(r->log, &st) != 0)
        return fail(errno, "stat", r->log_path, err);
    off_t from = st.st_size > TAIL_BYTES ? st.st_size - TAIL_BYTES : 0;
    size_t n = (size_t)(st.st_size - from);
    char *text = malloc(n + 1);
    if (!text)
        return err_set(err, ST_NOMEM, "'%s'", r->log_path);
    if (file_read_at(r->log, text, n, (uint64_t)from, r->log_path, err) == ST_OK)
        cut_tail(r, from, (struct str){ text, n }, ret, err);
    free(text);
    return err->code;
}

enum status run_dir_log_open(struct run_dir *r, struct run_tail *ret, struct err *err)
{
    struct run_tail tail = { 0 };
    if (file_path(r->log_path, err, "%s/metrics.jsonl", r->path) != ST_OK)
        return err->code;
    r->log = open(r->log_path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (r->log < 0)
        return fail(errno, "open", r->log_path, err);
    if (read_tail(r, &tail, err) == ST_OK)
        *ret = tail;
    return err->code;
}

/* A torn line would be cut at the next start; cutting it now lets others read on. */
static enum status append(struct run_dir *r, struct str line, struct err *err)
{
    struct stat st;
    if (fstat(r->log, &st) != 0)
        return fail(errno, "stat", r->log_path, err);
    if (file_write(r->log, line.p, line.n, r->log_path, err) != ST_OK &&
        ftruncate(r->log, st.st_size) != 0)
        err_ctx(err, "and the torn line stays");
    return err->code;
}

enum status run_dir_log(struct run_dir *r, json_t *doc, struct err *err)
{
    struct buf line = BUF_INIT;
    if (!doc)
        err_set(err, ST_NOMEM, "'%s'", r->log_path);
    else if (json_write(doc, &line, err) == ST_OK) {
        buf_char(&line, '\n');
        if (buf_ok(&line, r->log_path, err) == ST_OK)
            append(r, buf_view(&line), err);
    }
    json_free(doc);
    buf_clear(&line);
    return err->code;
}

enum status run_dir_log_sync(struct run_dir *r, struct err *err)
{
    return fsync(r->log) == 0 ? ST_OK : fail(errno, "fsync", r->log_path, err);
}
