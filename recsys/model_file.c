/* recsys/model_file.c - a model's file. Little-endian:
 *
 *   head     magic, version, byte order, sizes and settings (struct head), its checksum
 *   names    users and items: ends u64 [n], bytes
 *   arrays   of model_fields.h in their order, each at a multiple of 64 bytes
 *   table    name, offset, bytes and checksum of each section; the head says where
 *
 * Nothing in a file is trusted: sizes are compared with the file's length before anything is
 * allocated, sections with their checksums, numbers with what they mean. */
#include "engine/base/file.h"
#include "engine/base/hash.h"
#include "engine/base/num.h"
#include "recsys/model_fields.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { VERSION = 1, SECTIONS_MAX = RFIELDS_MAX + 8, ALIGN = 64 };
static const char MAGIC[8] = "STRBRPF";
static const uint32_t ORDER = 0x01020304;

struct head {
    char magic[8];
    uint32_t version, order;
    uint32_t terms, n_user, n_item, k, n_scale, n_cluster, n_clock, n_mu;
    uint32_t pooled, clock_wins, n_section, n_zone, activity, unused;
    uint64_t n_edge, n_event, data_hash, table;
    double unit_s, start_s, end_s;
    double a_theta, a_beta, a_tau, a_phi, a_hyper, b_hyper, a_mu, b_mu;
    double clock_width, clock_prior, clock_keep, loss_items, loss_clock;
    struct rkernel scale[RSCALES_MAX], item_kernel;
    char zone[CALENDAR_NAME_MAX];
    uint64_t sweeps;
    uint64_t sum; /* of all before */
};

struct section {
    char name[16];
    uint64_t at, bytes, sum;
};

_Static_assert(sizeof(struct head) % 8 == 0, "checksums take eight bytes at a time");

/* ---- writing ---- */

struct writer {
    int fd;
    const char *path;
    uint64_t at;
    struct section table[SECTIONS_MAX];
    uint32_t n;
    struct err *err;
};

static void put(struct writer *w, const void *p, uint64_t n)
{
    if (w->err->code == ST_OK && n)
        file_write(w->fd, p, n, w->path, w->err);
    w->at += n;
}

static void put_section(struct writer *w, const char *name, const void *p, uint64_t bytes)
{
    static const char zero[ALIGN];
    put(w, zero, num_align(w->at, ALIGN) - w->at);
    struct section *s = &w->table[w->n++];
    *s = (struct section){ .at = w->at, .bytes = bytes, .sum = hash_chain(0, p, bytes) };
    memcpy(s->name, name, strlen(name));
    put(w, p, bytes);
}

static void put_names(struct writer *w, const struct ids *ids, const char *ends, const char *bytes)
{
    put_section(w, ends, ids->end, ids->n * sizeof *ids->end);
    put_section(w, bytes, ids->text, ids->n ? ids->end[ids->n - 1] : 0);
}

static struct head head_of(const struct rmodel *m)
{
    struct head h = { .version = VERSION, .order = ORDER };
    memcpy(h.magic, MAGIC, sizeof h.magic);
    h.terms = m->terms;
    h.n_user = m->n_user;
    h.n_item = m->n_item;
    h.k = m->k;
    h.n_scale = m->n_scale;
    h.n_cluster = m->n_cluster;
    h.n_clock = m->n_clock;
    h.n_mu = m->n_mu;
    h.pooled = m->pooled;
    h.activity = m->activity;
    h.clock_wins = m->clock_wins;
    h.n_zone = m->zone.n;
    h.n_edge = m->n_edge;
    h.n_event = m->n_event;
    h.data_hash = m->data_hash;
    h.unit_s = m->unit_s;
    h.start_s = m->start_s;
    h.end_s = m->end_s;
    h.a_theta = m->a_theta;
    h.a_beta = m->a_beta;
    h.a_tau = m->a_tau;
    h.a_phi = m->a_phi;
    h.a_hyper = m->a_hyper;
    h.b_hyper = m->b_hyper;
    h.a_mu = m->a_mu;
    h.b_mu = m->b_mu;
    h.clock_width = m->clock_width;
    h.clock_prior = m->clock_prior;
    h.clock_keep = m->clock_keep;
    h.loss_items = m->loss_items;
    h.loss_clock = m->loss_clock;
    memcpy(h.scale, m->scale, sizeof h.scale);
    h.item_kernel = m->item_kernel;
    memcpy(h.zone, m->zone.name, sizeof h.zone);
    h.sweeps = m->sweeps;
    return h;
}

static void write_all(struct writer *w, const struct rmodel *m)
{
    struct rmodel copy = *m; /* the table of fields points into a model */
    struct rfield field[RFIELDS_MAX];
    struct head h = head_of(m);
    put(w, &h, sizeof h);
    put_names(w, &m->users, "user_ends", "user_names");
    put_names(w, &m->items, "item_ends", "item_names");
    put_section(w, "zone_from", m->zone.from, m->zone.n * sizeof *m->zone.from);
    put_section(w, "zone_offset", m->zone.offset_s, m->zone.n * sizeof *m->zone.offset_s);
    unsigned n = rmodel_fields(&copy, field);
    for (unsigned i = 0; i < n; i++) {
        void *p;
        memcpy(&p, field[i].at, sizeof p);
        if (field[i].n)
            put_section(w, field[i].name, p, field[i].n * field[i].size);
    }
    h.n_section = w->n;
    h.table = w->at;
    put(w, w->table, w->n * sizeof *w->table);
    h.sum = hash_chain(hash_chain(0, &h, offsetof(struct head, sum)), w->table,
                       w->n * sizeof *w->table);
    if (w->err->code == ST_OK)
        file_write_at(w->fd, &h, sizeof h, 0, w->path, w->err);
}

enum status rmodel_save(const struct rmodel *m, const char *path, struct err *err)
{
    char tmp[FILE_PATH_MAX], dir[FILE_PATH_MAX];
    if (file_path(tmp, err, "%s.tmp", path) != ST_OK || file_path(dir, err, "%s", path) != ST_OK)
        return err->code;
    char *slash = strrchr(dir, '/');
    if (slash && slash != dir)
        *slash = 0;
    else
        memcpy(dir, slash ? "/" : ".", 2);
    struct writer w = { .path = path, .err = err };
    w.fd = open(tmp, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
    if (w.fd < 0)
        return err_sys(err, errno, "open"), err_ctx(err, "%s", tmp);
    write_all(&w, m);
    if (err->code == ST_OK && fsync(w.fd) != 0)
        err_sys(err, errno, "fsync");
    if (close(w.fd) != 0 && err->code == ST_OK)
        err_sys(err, errno, "close");
    if (err->code == ST_OK && rename(tmp, path) != 0)
        err_sys(err, errno, "rename");
    if (err->code != ST_OK) {
        unlink(tmp);
        return err_ctx(err, "%s", path);
    }
    return file_sync_dir(dir, err);
}

/* ---- reading ---- */

struct reader {
    int fd;
    const char *path;
    uint64_t size;
    struct head h;
    struct section table[SECTIONS_MAX];
    struct err *err;
};

static bool bad(struct reader *r, const char *what)
{
    err_set(r->err, ST_FORMAT, "%s", what);
    return false;
}

static bool read_at(struct reader *r, uint64_t at, void *p, uint64_t n)
{
    return file_read_at(r->fd, p, n, at, r->path, r->err) == ST_OK;
}

static bool head_ok(struct reader *r)
{
    const struct head *h = &r->h;
    const struct rmodel sizes = { .terms = h->terms,
                                  .n_user = h->n_user,
                                  .n_item = h->n_item,
                                  .k = h->k,
                                  .n_scale = h->n_scale,
                                  .n_edge = h->n_edge,
                                  .n_cluster = h->n_cluster,
                                  .n_clock = h->n_clock };
    if (memcmp(h->magic, MAGIC, sizeof h->magic) != 0)
        return bad(r, "not a model of strobe recsys: fit one with `strobe recsys fit`");
    if (h->order != ORDER)
        return bad(r, "written on a machine of the other byte order");
    if (h->version != VERSION)
        return bad(r, "of another version of the format: fit it anew");
    if (!rmodel_sizes_ok(&sizes) || h->n_section > SECTIONS_MAX || h->n_mu > 1u << 30 ||
        h->n_zone > CALENDAR_STEPS_MAX || h->terms > 63)
        return bad(r, "damaged: its sizes make no sense");
    if (h->table > r->size || r->size - h->table != h->n_section * sizeof *r->table)
        return bad(r, "cut short or grown: its length is not what its head says");
    return true;
}

static bool scalars_ok(struct reader *r)
{
    const struct head *h = &r->h;
    const double v[] = { h->unit_s,  h->a_theta, h->a_beta, h->a_tau, h->a_phi,
                         h->a_hyper, h->b_hyper, h->a_mu,   h->b_mu };
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++)
        if (!(v[i] > 0) || !isfinite(v[i]))
            return bad(r, "damaged: a setting is no positive number");
    for (uint32_t m = 0; m < h->n_scale; m++)
        if (!(h->scale[m].w > 0) || !isfinite(h->scale[m].w) || h->scale[m].order < 1 ||
            h->scale[m].order > 2)
            return bad(r, "damaged: a scale is no positive number");
    if (h->terms & (RT_ITEMS | RT_CLUSTERS) &&
        (!(h->item_kernel.w > 0) || !isfinite(h->item_kernel.w)))
        return bad(r, "damaged: the scale between items is no positive number");
    if (!isfinite(h->start_s) || !isfinite(h->end_s) || !isfinite(h->clock_width) ||
        !isfinite(h->clock_prior) || !isfinite(h->clock_keep))
        return bad(r, "damaged: a time is not finite");
    return true;
}

static bool read_head(struct reader *r)
{
    struct stat st;
    if (fstat(r->fd, &st) != 0)
        return err_sys(r->err, errno, "fstat"), false;
    r->size = (uint64_t)st.st_size;
    if (!S_ISREG(st.st_mode) || r->size < sizeof r->h)
        return bad(r, "not a model of strobe recsys: fit one with `strobe recsys fit`");
    if (!read_at(r, 0, &r->h, sizeof r->h) || !head_ok(r))
        return false;
    uint64_t bytes = r->h.n_section * sizeof *r->table;
    if (!read_at(r, r->h.table, r->table, bytes))
        return false;
    if (hash_chain(hash_chain(0, &r->h, offsetof(struct head, sum)), r->table, bytes) != r->h.sum)
        return bad(r, "damaged: the head's checksum does not match");
    return scalars_ok(r);
}

/* A section of exactly these bytes into p. */
static bool section(struct reader *r, const char *name, void *p, uint64_t bytes)
{
    for (uint32_t i = 0; i < r->h.n_section; i++) {
        struct section *s = &r->table[i];
        if (strncmp(s->name, name, sizeof s->name) != 0)
            continue;
        if (s->bytes != bytes || s->at > r->size || bytes > r->size - s->at)
            break;
        if (!read_at(r, s->at, p, bytes))
            return false;
        if (hash_chain(0, p, bytes) == s->sum)
            return true;
        err_set(r->err, ST_FORMAT, "damaged: the checksum of '%s' does not match", name);
        return false;
    }
    err_set(r->err, ST_FORMAT, "damaged: section '%s' is missing or has another size", name);
    return false;
}

static uint64_t section_bytes(const struct reader *r, const char *name)
{
    for (uint32_t i = 0; i < r->h.n_section; i++)
        if (strncmp(r->table[i].name, name, sizeof r->table[i].name) == 0)
            return r->table[i].bytes;
    return 0;
}

static bool add_names(struct reader *r, struct ids *ids, const uint64_t *end, const char *text,
                      uint32_t n)
{
    uint64_t from = 0, bytes = n ? end[n - 1] : 0;
    for (uint32_t i = 0; i < n; from = end[i++]) {
        uint32_t at;
        if (end[i] < from || end[i] > bytes)
            return bad(r, "damaged: its names overlap");
        struct str name = { text + from, (size_t)(end[i] - from) };
        if (ids_add(ids, name, &at, r->err) != ST_OK)
            return false;
        if (at != i)
            return bad(r, "damaged: it has a name twice");
    }
    return true;
}

static bool read_names(struct reader *r, struct ids *ids, uint32_t n, const char *ends,
                       const char *names)
{
    uint64_t bytes = section_bytes(r, names);
    if (n > r->size / 8 || bytes > r->size)
        return bad(r, "damaged: more names than the file can hold");
    uint64_t *end = malloc((n + (size_t)1) * sizeof *end);
    char *text = malloc(bytes + 1);
    bool ok = end && text;
    if (!ok)
        err_set(r->err, ST_NOMEM, "names");
    ok = ok && section(r, ends, end, n * sizeof *end) && section(r, names, text, bytes);
    if (ok && (n ? end[n - 1] : 0) != bytes)
        ok = bad(r, "damaged: its names do not add up");
    ok = ok && add_names(r, ids, end, text, n);
    free(end);
    free(text);
    return ok;
}

static bool numbers_ok(struct reader *r, const struct rfield *f, const void *p)
{
    for (uint64_t i = 0; i < f->n && f->check != CHECK_NONE; i++) {
        double v = f->size == 4 ? (double)((const float *)p)[i] : ((const double *)p)[i];
        if (!isfinite(v) || v < 0 || (v == 0 && f->check == CHECK_POSITIVE)) {
            if (isfinite(v) && f->check == CHECK_FINITE)
                continue; /* logarithms may be negative */
            err_set(r->err, ST_FORMAT, "damaged: '%s' holds %g", f->name, v);
            return false;
        }
    }
    return true;
}

static bool indices_ok(struct reader *r, const struct rmodel *m)
{
    uint64_t before = 0;
    for (uint32_t u = 0; m->edge_ptr && u <= m->n_user; before = m->edge_ptr[u++])
        if (m->edge_ptr[u] < before || m->edge_ptr[u] > m->n_edge)
            return bad(r, "damaged: edges overlap");
    for (uint64_t e = 0; m->edge_from && e < m->n_edge; e++)
        if (m->edge_from[e] >= m->n_user)
            return bad(r, "damaged: an edge comes from nobody");
    for (uint32_t p = 0; m->cluster && p < m->n_item; p++)
        if (m->cluster[p] >= m->n_cluster)
            return bad(r, "damaged: an item's cluster does not exist");
    for (uint32_t u = 0; m->clock_last && u < m->n_user; u++)
        if (m->clock_last[u] > m->n_clock)
            return bad(r, "damaged: a user's clock");
    return true;
}

static void settings(struct rmodel *m, const struct head *h)
{
    *m = (struct rmodel){ .terms = h->terms,
                          .n_user = h->n_user,
                          .n_item = h->n_item,
                          .k = h->k,
                          .n_scale = h->n_scale,
                          .n_cluster = h->n_cluster,
                          .n_clock = h->n_clock,
                          .n_mu = h->n_mu,
                          .n_edge = h->n_edge };
    m->pooled = h->pooled != 0;
    m->activity = h->activity != 0;
    m->clock_wins = h->clock_wins != 0;
    m->n_event = h->n_event;
    m->data_hash = h->data_hash;
    m->unit_s = h->unit_s;
    m->start_s = h->start_s;
    m->end_s = h->end_s;
    m->a_theta = h->a_theta;
    m->a_beta = h->a_beta;
    m->a_tau = h->a_tau;
    m->a_phi = h->a_phi;
    m->a_hyper = h->a_hyper;
    m->b_hyper = h->b_hyper;
    m->a_mu = h->a_mu;
    m->b_mu = h->b_mu;
    m->clock_width = h->clock_width;
    m->clock_prior = h->clock_prior;
    m->clock_keep = h->clock_keep;
    m->loss_items = h->loss_items;
    m->loss_clock = h->loss_clock;
    m->item_kernel = h->item_kernel;
    memcpy(m->scale, h->scale, sizeof m->scale);
    m->zone.n = h->n_zone;
    memcpy(m->zone.name, h->zone, sizeof m->zone.name);
    m->zone.name[sizeof m->zone.name - 1] = 0;
    m->sweeps = h->sweeps;
}

/* What the arrays need, before they are allocated. */
static bool fits_file(struct reader *r, const struct rmodel *sizes)
{
    struct rmodel m = *sizes;
    struct rfield field[RFIELDS_MAX];
    uint64_t left = r->size;
    m.stride = (m.k + RSTRIDE - 1) / RSTRIDE * RSTRIDE;
    m.n_feat = m.terms & RT_CALENDAR ? RFEATURES : 1;
    unsigned n = rmodel_fields(&m, field);
    for (unsigned i = 0; i < n; i++) {
        if (field[i].n > left / field[i].size)
            return bad(r, "cut short: its arrays need more bytes than it has");
        left -= field[i].n * field[i].size;
    }
    return true;
}

static struct rmodel *read_model(struct reader *r)
{
    struct rmodel sizes, *m = NULL;
    struct rfield field[RFIELDS_MAX];
    settings(&sizes, &r->h);
    sizes.n_state = section_bytes(r, "state") / sizeof *sizes.state;
    if (!fits_file(r, &sizes) || rmodel_create(&sizes, &m, r->err) != ST_OK)
        return NULL;
    bool ok = read_names(r, &m->users, m->n_user, "user_ends", "user_names") &&
              read_names(r, &m->items, m->n_item, "item_ends", "item_names") &&
              section(r, "zone_from", m->zone.from, m->zone.n * sizeof *m->zone.from) &&
              section(r, "zone_offset", m->zone.offset_s, m->zone.n * sizeof *m->zone.offset_s);
    unsigned n = rmodel_fields(m, field);
    for (unsigned i = 0; ok && i < n; i++) {
        void *p;
        memcpy(&p, field[i].at, sizeof p);
        ok = field[i].n == 0 || (section(r, field[i].name, p, field[i].n * field[i].size) &&
                                 (field[i].type != 'f' || numbers_ok(r, &field[i], p)));
    }
    if (ok && indices_ok(r, m))
        return m;
    rmodel_free(m);
    return NULL;
}

enum status rmodel_load(const char *path, struct rmodel **ret, struct err *err)
{
    struct reader r = { .path = path, .err = err };
    r.fd = open(path, O_RDONLY | O_CLOEXEC);
    if (r.fd < 0)
        return err_sys(err, errno, "open"), err_ctx(err, "model '%s'", path);
    struct rmodel *m = read_head(&r) ? read_model(&r) : NULL;
    close(r.fd);
    if (!m)
        return err_ctx(err, "model '%s'", path);
    *ret = m;
    return ST_OK;
}
