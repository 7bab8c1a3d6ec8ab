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

/* A line that tells a step; anything else is what a crash left. */
static bool parse_line(struct str line, struct run_tail *ret)
{
    struct err ignored = ERR_INIT;
    json_t *doc = NULL;
    struct run_tail t = { 0 };
    int64_t step = 0;
    bool good = json_parse(line, "metrics", &doc, &ignored) == ST_OK && json_is_object(doc) &&
                json_get_i64(doc, "step", true, 0, INT64_MAX, &step, &ignored) == ST_OK &&
                json_get_f64(doc, "seconds", true, 0, DBL_MAX, &t.seconds, &ignored) == ST_OK &&
                json_get_f64(doc, "dollars", true, 0, DBL_MAX, &t.dollars, &ignored) == ST_OK;
    json_free(doc);
    t.step = (uint64_t)step;
    if (good)
        *ret = t;
    return good;
}

/* Length of the text up to its last whole line that parses; 0: none. */
static size_t whole_lines(struct str text, struct run_tail *ret)
{
    size_t end = text.n;
    for (;;) {
        while (end > 0 && text.p[end - 1] != '\n')
            end--;
        if (end == 0)
            return 0;
        size_t start = end - 1;
        while (start > 0 && text.p[start - 1] != '\n')
            start--;
        if (parse_line((struct str){ text.p + start, end - 1 - start }, ret))
            return end;
        end = start;
    }
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
    if (lseek(r->log, from, SEEK_SET) < 0)
        fail(errno, "seek", r->log_path, err);
    else if (file_read(r->log, text, n, r->log_path, err) == ST_OK) {
        size_t keep = whole_lines((struct str){ text, n }, ret);
        if (keep == 0 && from > 0)
            err_set(err, ST_FORMAT, "'%s' is no log of a run: its last %zu bytes hold no line",
                    r->log_path, n);
        else if (keep < n && ftruncate(r->log, from + (off_t)keep) != 0)
            fail(errno, "truncate", r->log_path, err);
    }
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

enum status run_dir_log(struct run_dir *r, json_t *doc, struct err *err)
{
    struct buf line = BUF_INIT;
    struct stat st;
    if (!doc)
        err_set(err, ST_NOMEM, "'%s'", r->log_path);
    else if (json_write(doc, &line, err) == ST_OK) {
        buf_char(&line, '\n');
        if (buf_ok(&line, r->log_path, err) == ST_OK && fstat(r->log, &st) != 0)
            fail(errno, "stat", r->log_path, err);
        /* A torn line would be cut at the next start; cutting it now lets others read on. */
        if (err->code == ST_OK && file_write(r->log, line.p, line.n, r->log_path, err) != ST_OK &&
            ftruncate(r->log, st.st_size) != 0)
            err_ctx(err, "and the torn line stays");
    }
    json_free(doc);
    buf_clear(&line);
    return err->code;
}

enum status run_dir_log_sync(struct run_dir *r, struct err *err)
{
    return fsync(r->log) == 0 ? ST_OK : fail(errno, "fsync", r->log_path, err);
}
