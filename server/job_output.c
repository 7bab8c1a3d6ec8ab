/* server/job_output.c - see job_output.h. */
#include "server/job_output.h"

#include "engine/base/file.h"
#include "server/jobs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READS_MAX = 64 }; /* of a pipe, per look */

void job_put_hidden(const char *data_dir, struct str text, struct buf *out)
{
    struct str dir = str_c(data_dir);
    size_t at = 0, hit;
    while ((hit = str_find(text, dir, at)) != SIZE_MAX) {
        size_t end = hit + dir.n;
        bool whole = end < text.n && text.p[end] == '/';
        buf_put(out, text.p + at, whole ? hit - at : end - at);
        at = whole ? end + 1 : end;
    }
    buf_put(out, text.p + at, text.n - at);
}

static void open_log(struct job_output *o)
{
    struct stat st;
    struct buf path = BUF_INIT;
    buf_printf(&path, "%s/log.txt", o->dir);
    o->log = path.failed
                 ? -1
                 : open(path.p, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    o->log_bytes = o->log >= 0 && fstat(o->log, &st) == 0 ? st.st_size : 0;
    buf_clear(&path);
}

void job_output_open(struct job_output *o, const char *dir)
{
    o->dir = dir;
    open_log(o);
}

void job_output_close(struct job_output *o)
{
    if (o->log >= 0)
        close(o->log);
    buf_clear(&o->out);
    *o = (struct job_output)JOB_OUTPUT_INIT;
}

void job_output_begin(struct job_output *o)
{
    buf_reset(&o->out);
    o->n_last = 0;
}

/* Two files of JOBS_LOG_MAX at most: the older half of a long log goes. */
static void turn_log(struct job_output *o)
{
    struct buf path = BUF_INIT, old = BUF_INIT;
    buf_printf(&path, "%s/log.txt", o->dir);
    buf_printf(&old, "%s/log.old.txt", o->dir);
    if (!path.failed && !old.failed && rename(path.p, old.p) == 0) {
        close(o->log);
        open_log(o);
    }
    buf_clear(&path);
    buf_clear(&old);
}

/* A log that cannot be written is no reason to end a run. */
static void put_log(struct job_output *o, struct str s)
{
    struct err err = ERR_INIT;
    if (o->log >= 0 && o->log_bytes + (off_t)s.n > JOBS_LOG_MAX)
        turn_log(o);
    if (o->log >= 0 && o->log_bytes + (off_t)s.n <= JOBS_LOG_MAX &&
        file_write(o->log, s.p, s.n, "log", &err) == ST_OK)
        o->log_bytes += (off_t)s.n;
}

void job_output_note(struct job_output *o, const char *what)
{
    struct buf b = BUF_INIT;
    buf_printf(&b, "--- %s\n", what);
    if (!b.failed)
        put_log(o, buf_view(&b));
    buf_clear(&b);
}

/* The end of what it said, for the job's error. */
static void keep_last(struct job_output *o, struct str s)
{
    if (s.n > JOB_LAST_MAX)
        s = (struct str){ s.p + s.n - JOB_LAST_MAX, JOB_LAST_MAX };
    size_t keep = o->n_last + s.n > JOB_LAST_MAX ? JOB_LAST_MAX - s.n : o->n_last;
    memmove(o->last, o->last + o->n_last - keep, keep);
    memcpy(o->last + keep, s.p, s.n);
    o->n_last = keep + s.n;
}

struct str job_output_last(const struct job_output *o)
{
    struct str s = str_trim((struct str){ o->last, o->n_last });
    const char *eol = s.p && s.n ? memrchr(s.p, '\n', s.n) : NULL;
    if (eol)
        s = (struct str){ eol + 1, s.n - (size_t)(eol + 1 - s.p) };
    const char *colon = s.p && s.n ? memchr(s.p, ':', s.n) : NULL;
    if (str_starts(s, STR("strobe ")) && colon)
        s = str_trim((struct str){ colon + 1, s.n - (size_t)(colon + 1 - s.p) });
    return s;
}

/* Takes what is in a pipe, not more than a talkative process can put there meanwhile. false: it has
 * ended. */
static bool drain(struct job_output *o, int fd, bool is_log)
{
    char part[4096];
    ssize_t n = 0;
    for (int i = 0; i < READS_MAX && (n = read(fd, part, sizeof part)) > 0; i++) {
        struct str s = { part, (size_t)n };
        if (is_log) {
            put_log(o, s);
            keep_last(o, s);
        } else if (o->out.n + s.n <= JOB_RESULT_MAX) {
            buf_str(&o->out, s);
        }
    }
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

void job_output_drain(struct job_output *o, struct process *p)
{
    if (p->out >= 0 && !drain(o, p->out, false)) {
        close(p->out);
        p->out = -1;
    }
    if (p->log >= 0 && !drain(o, p->log, true)) {
        close(p->log);
        p->log = -1;
    }
}

/* Texts in what it printed, as clients may see them. */
static void hide_paths(const char *data_dir, json_t *doc)
{
    const char *key;
    json_t *v;
    void *safe;
    json_object_foreach_safe(doc, safe, key, v)
    {
        struct buf shown = BUF_INIT;
        if (!json_is_string(v))
            continue;
        job_put_hidden(data_dir, str_c(json_string_value(v)), &shown);
        json_object_set_new(doc, key, json_text(buf_view(&shown)));
        buf_clear(&shown);
    }
}

json_t *job_output_result(const struct job_output *o, const char *data_dir)
{
    struct err err = ERR_INIT;
    json_t *doc = NULL;
    if (json_parse(str_trim(buf_view(&o->out)), "result", &doc, &err) != ST_OK ||
        !json_is_object(doc)) {
        json_free(doc);
        return NULL;
    }
    hide_paths(data_dir, doc);
    return doc;
}
