/* server/job_metrics.c - see job_metrics.h. */
#include "server/job_metrics.h"

#include "engine/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINES_MAX = 4000000, LINE_USUAL = 1024, CHUNK = 4 * METRIC_LINE_MAX };

/* *ret is an object, or NULL: torn, too long. false: no memory, who knows what it is. */
static bool parse_line(struct str line, json_t **ret)
{
    struct err err = ERR_INIT;
    json_t *v = NULL;
    *ret = NULL;
    if (line.n == 0 || line.n > METRIC_LINE_MAX ||
        json_parse(line, "metrics line", &v, &err) != ST_OK)
        return err.code != ST_NOMEM;
    if (json_is_object(v))
        *ret = v;
    else
        json_free(v);
    return true;
}

/* ---- reading by lines ---- */

/* A window on a file: whole lines of [at, end). */
struct lines {
    int fd;
    uint64_t at, end;  /* next line's offset; where to stop */
    char *chunk;       /* [CHUNK] */
    size_t from, have; /* the chunk's part that is not yet given out */
};

/* The next whole line, without its end; `at` moves behind it. false: none before `end`. */
static bool next_line(struct lines *l, struct str *ret)
{
    for (;;) {
        const char *p = l->chunk + l->from;
        const char *eol = memchr(p, '\n', l->have);
        if (eol) {
            size_t n = (size_t)(eol - p) + 1;
            if (l->at + n > l->end)
                return false;
            *ret = (struct str){ p, n - 1 };
            l->from += n;
            l->have -= n;
            l->at += n;
            return true;
        }
        /* Too long for the window: given out in pieces, which nobody takes for JSON. */
        if (l->have == CHUNK) {
            *ret = (struct str){ p, l->have };
            l->at += l->have;
            l->have = l->from = 0;
            return true;
        }
        memmove(l->chunk, p, l->have);
        l->from = 0;
        ssize_t n;
        do
            n = pread(l->fd, l->chunk + l->have, CHUNK - l->have, (off_t)(l->at + l->have));
        while (n < 0 && errno == EINTR);
        if (n <= 0)
            return false;
        l->have += (size_t)n;
    }
}

static int open_lines(const char *path)
{
    int fd;
    do
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    while (fd < 0 && errno == EINTR);
    return fd;
}

bool metric_tail_read(struct metric_tail *t, void (*fn)(void *ctx, const json_t *line), void *ctx)
{
    struct stat st;
    int fd = open_lines(t->path);
    if (fd < 0)
        return false;
    bool ok = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    if (ok && (uint64_t)st.st_size < t->at)
        t->at = 0;
    if (ok && (uint64_t)st.st_size > t->at) {
        struct lines l = { .fd = fd, .at = t->at, .end = UINT64_MAX, .chunk = malloc(CHUNK) };
        struct str line;
        json_t *v;
        ok = l.chunk != NULL;
        while (ok && next_line(&l, &line) && (ok = parse_line(line, &v))) {
            if (v)
                fn(ctx, v);
            json_free(v);
            t->at = l.at;
        }
        free(l.chunk);
    }
    close(fd);
    return ok;
}

uint64_t metric_end(const char *path)
{
    struct stat st;
    uint64_t end = 0;
    int fd = open_lines(path);
    char *p = malloc(METRIC_LINE_MAX);
    if (fd >= 0 && p && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        off_t from = st.st_size > METRIC_LINE_MAX ? st.st_size - METRIC_LINE_MAX : 0;
        struct err none = ERR_INIT;
        size_t n = 0;
        file_read_upto(fd, p, METRIC_LINE_MAX, (uint64_t)from, &n, &none);
        const char *eol = memrchr(p, '\n', n);
        end = eol ? (uint64_t)from + (uint64_t)(eol - p) + 1 : 0;
    }
    free(p);
    if (fd >= 0)
        close(fd);
    return end;
}

/* ---- where a run stands ---- */

static double number_of(const json_t *obj, const char *key)
{
    const json_t *v = json_object_get(obj, key);
    return json_is_number(v) ? json_number_value(v) : 0;
}

void metric_state_add(struct metric_state *s, const json_t *line)
{
    const char *key;
    json_t *v, *obj = (json_t *)(uintptr_t)line; /* jansson's iterators take no const */
    if (!s->last)
        s->last = json_object();
    s->step = (int64_t)number_of(line, "step");
    json_object_foreach(obj, key, v)
    {
        bool room = json_object_size(s->last) < METRIC_FIELDS_MAX;
        bool what = strcmp(key, "what") == 0 && json_is_string(v) &&
                    json_string_length(v) <= METRIC_WHAT_MAX;
        if (s->last && (json_is_number(v) || what) && (room || json_object_get(s->last, key)))
            json_object_set(s->last, key, v);
    }
}

static double share_of(const struct metric_state *s)
{
    if (json_object_get(s->last, "share")) /* the process itself knows best */
        return number_of(s->last, "share");
    double share = s->steps > 0    ? (double)s->step / s->steps
                   : s->tokens > 0 ? number_of(s->last, "tokens") / s->tokens
                                   : (double)NAN;
    return share < 0 ? 0 : share > 1 ? 1 : share;
}

void metric_state_write(const struct metric_state *s, struct buf *out)
{
    struct err err = ERR_INIT;
    if (!s->last || json_object_size(s->last) == 0)
        return;
    size_t start = out->n;
    double share = share_of(s), seconds = number_of(s->last, "seconds");
    if (json_write(s->last, out, &err) != ST_OK || out->n <= start + 2)
        return;
    out->n--; /* its closing brace */
    if (s->steps > 0)
        buf_printf(out, ",\"steps_total\":%.0f", s->steps);
    if (s->tokens > 0)
        buf_printf(out, ",\"tokens_total\":%.0f", s->tokens);
    if (share >= 0) {
        if (!json_object_get(s->last, "share"))
            buf_printf(out, ",\"share\":%.6f", share);
        if (share > 0 && seconds > 0)
            buf_printf(out, ",\"eta_s\":%.1f", seconds * (1 - share) / share);
    }
    buf_char(out, '}');
}

void metric_state_clear(struct metric_state *s)
{
    json_free(s->last);
    s->last = NULL;
}

/* ---- events ---- */

uint64_t metric_events(int fd, uint64_t from, uint64_t to, struct buf *out)
{
    struct lines l = { .fd = fd, .at = from, .end = to, .chunk = malloc(CHUNK) };
    struct str line;
    size_t start = out->n;
    uint64_t at = from;
    json_t *v;
    while (l.chunk && out->n - start < METRIC_LINE_MAX && next_line(&l, &line) &&
           parse_line(line, &v)) {
        at = l.at;
        if (v)
            buf_printf(out, "id: %llu\nevent: metrics\ndata: %.*s\n\n", (unsigned long long)at,
                       (int)line.n, line.p);
        json_free(v);
    }
    free(l.chunk);
    return at;
}

/* ---- series ---- */

struct mark {
    uint64_t at;
    int64_t step;
    bool held_out;
};

struct index {
    struct mark *mark;
    size_t n, cap;
    uint64_t end;
};

/* The number behind "step": without parsing the line, as all of them are looked at. */
static bool find_step(struct str line, int64_t *ret)
{
    size_t at = str_find(line, STR("\"step\":"), 0);
    if (at == SIZE_MAX)
        return false;
    char text[24] = "";
    size_t n = line.n - at - 7;
    memcpy(text, line.p + at + 7, n < sizeof text - 1 ? n : sizeof text - 1);
    *ret = strtoll(text, NULL, 10);
    return true;
}

/* Steps ascend strictly: what a resumed run repeats replaces what was there. */
static enum status add_mark(struct index *x, struct mark m, struct err *err)
{
    while (x->n && x->mark[x->n - 1].step >= m.step)
        x->n--;
    if (x->n == LINES_MAX)
        return err_set(err, ST_RANGE, "the metrics have more than %d lines", LINES_MAX);
    if (x->n == x->cap) {
        size_t cap = x->cap ? x->cap * 2 : 1024;
        struct mark *p = realloc(x->mark, cap * sizeof *p);
        if (!p)
            return err_set(err, ST_NOMEM, "metrics of a job");
        x->mark = p;
        x->cap = cap;
    }
    x->mark[x->n++] = m;
    return ST_OK;
}

static enum status make_index(struct lines *l, struct index *x, struct err *err)
{
    struct str line;
    uint64_t at = l->at;
    while (err->code == ST_OK && next_line(l, &line)) {
        struct mark m = { .at = at };
        at = l->at;
        /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): read before */
        if (line.n <= METRIC_LINE_MAX && line.n > 1 && line.p[0] == '{' &&
            line.p[line.n - 1] == '}' && find_step(line, &m.step)) {
            m.held_out = str_find(line, STR("\"val_loss\":"), 0) != SIZE_MAX &&
                         str_find(line, STR("\"val_loss\":null"), 0) == SIZE_MAX;
            add_mark(x, m, err);
        }
    }
    x->end = at;
    return err->code;
}

/* Drops the marks that are not shown. */
static void thin(struct index *x, int64_t from, uint32_t *stride)
{
    size_t first = 0, kept = 0;
    while (first < x->n && x->mark[first].step < from)
        first++;
    size_t n = x->n - first;
    if (*stride == 0)
        *stride = (uint32_t)((n + METRIC_POINTS_MAX - 1) / METRIC_POINTS_MAX);
    if (*stride == 0)
        *stride = 1;
    for (size_t i = 0; i < n; i++)
        if (i % *stride == 0 || i + 1 == n || x->mark[first + i].held_out)
            x->mark[kept++] = x->mark[first + i];
    x->n = kept;
}

/* One column per number that any line has; rows without it have null. */
struct columns {
    json_t *map; /* name -> array */
    size_t rows;
    bool failed;
};

static void pad(struct columns *c, json_t *column, size_t to)
{
    while (json_array_size(column) < to)
        c->failed |= json_array_append_new(column, json_null()) != 0;
}

static void add_row(struct columns *c, json_t *line)
{
    const char *key;
    json_t *v;
    json_object_foreach(line, key, v)
    {
        json_t *column = json_object_get(c->map, key);
        if (!json_is_number(v) || (!column && json_object_size(c->map) == METRIC_FIELDS_MAX))
            continue;
        if (!column) {
            column = json_array();
            c->failed |= json_object_set_new(c->map, key, column) != 0;
        }
        if (c->failed)
            return;
        pad(c, column, c->rows);
        c->failed |= json_array_append(column, v) != 0;
    }
    c->rows++;
}

static void fill_columns(int fd, const struct index *x, char *chunk, struct columns *c)
{
    const char *key;
    json_t *column;
    for (size_t i = 0; i < x->n && !c->failed; i++) {
        struct lines l = { .fd = fd, .at = x->mark[i].at, .end = UINT64_MAX, .chunk = chunk };
        struct str line;
        json_t *v = NULL;
        ssize_t n = pread(fd, chunk, LINE_USUAL, (off_t)l.at); /* next_line() reads on if need be */
        l.have = n > 0 ? (size_t)n : 0;
        if (next_line(&l, &line))
            c->failed |= !parse_line(line, &v);
        if (v)
            add_row(c, v);
        json_free(v);
    }
    json_object_foreach(c->map, key, column) pad(c, column, c->rows);
}

static enum status write_series(int fd, struct index *x, char *chunk, int64_t from, uint32_t stride,
                                struct buf *out, struct err *err)
{
    struct columns c = { .map = json_object() };
    thin(x, from, &stride);
    c.failed = !c.map;
    if (!c.failed)
        fill_columns(fd, x, chunk, &c);
    if (c.failed) {
        err_set(err, ST_NOMEM, "metrics of a job");
    } else {
        buf_printf(out, "\"from\":%lld,\"stride\":%u,\"points\":%zu,\"offset\":%llu,\"columns\":",
                   (long long)from, stride, c.rows, (unsigned long long)x->end);
        json_write(c.map, out, err);
    }
    json_free(c.map);
    return err->code == ST_OK ? buf_ok(out, "metrics of a job", err) : err->code;
}

enum status metric_series(const char *path, int64_t from, uint32_t stride, struct buf *out,
                          struct err *err)
{
    struct index x = { 0 };
    int fd = open_lines(path);
    if (fd < 0 && errno != ENOENT) {
        err_sys(err, errno, "open");
        return err_ctx(err, "metrics of a job");
    }
    struct lines l = { .fd = fd, .end = UINT64_MAX, .chunk = malloc(CHUNK) };
    if (!l.chunk)
        err_set(err, ST_NOMEM, "metrics of a job");
    else if (fd < 0 || make_index(&l, &x, err) == ST_OK)
        write_series(fd, &x, l.chunk, from, stride, out, err);
    free(l.chunk);
    free(x.mark);
    if (fd >= 0)
        close(fd);
    return err->code;
}
