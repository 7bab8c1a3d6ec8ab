/* engine/flash/pack.c - see pack.h. The table is made first, so the header is known before any
 * data; tensors follow in its order. A run that was killed left a prefix of the same bytes: when
 * the header is the same, whole tensors are kept and the rest is made again. */
#include "engine/flash/pack.h"

#include "engine/base/hash.h"
#include "engine/base/num.h"
#include "engine/flash/pack_internal.h"
#include "engine/flash/predictor.h"
#include "engine/flash/rates.h"
#include "engine/model/gguf_write.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    FILE_ALIGN = 4096,  /* of tensors: what direct reads want at most */
    OUT_BYTES = 4 << 20 /* one write */
};

struct pack {
    const struct model *m;
    const struct pack_opts *o;
    struct bundle b;
    struct pack_reader r;
    uint32_t n_fd;              /* of r.fd, -1: not open */
    struct pack_tensor *tensor; /* the last one: checksums of the others */
    uint32_t n_tensor;
    uint64_t data_bytes;
    struct buf head;
    char *path; /* of the partial file */
    int fd;
    uint8_t *out;
    size_t n_out;
    uint64_t sum, written;
    float *rate; /* [n_layer, n_ff] or NULL */
    struct predictor pred;
    uint64_t mask_bytes;
    uint64_t *sums; /* of the tensors before the last, then the header's */
};

/* ---- the table ---- */

static struct pack_tensor *add(struct pack *p, enum pack_kind kind, uint32_t type, uint64_t ne0,
                               uint64_t ne1, uint64_t bytes)
{
    struct pack_tensor *t = &p->tensor[p->n_tensor++];
    *t = (struct pack_tensor){ .kind = kind,
                               .type = type,
                               .n_dim = ne1 ? 2 : 1,
                               .ne = { ne0, ne1 },
                               .offset = p->data_bytes,
                               .bytes = bytes };
    p->data_bytes += (bytes + FILE_ALIGN - 1) / FILE_ALIGN * FILE_ALIGN;
    return t;
}

static bool moves(const struct pack *p, const struct tensor *t)
{
    enum tensor_role first = p->b.gated ? TR_GATE : TR_UP;
    if (t->role != TR_GATE && t->role != TR_UP && t->role != TR_DOWN)
        return false;
    return bundle_has_first(&p->b) || t->role != first;
}

static void add_copies(struct pack *p)
{
    for (uint32_t i = 0; i < model_n_tensor(p->m); i++) {
        const struct tensor *t = model_tensor(p->m, i);
        if (moves(p, t))
            continue;
        uint32_t type = (uint32_t)t->type;
        if (t->role < TR_MATRICES && p->o->type >= 0 &&
            dtype_row_bytes((enum dtype)p->o->type, t->n_col))
            type = (uint32_t)p->o->type;
        uint64_t bytes = dtype_row_bytes((enum dtype)type, t->n_col) * t->n_row;
        struct pack_tensor *to =
            add(p, PACK_COPY, type, t->n_col, t->role < TR_MATRICES ? t->n_row : 0, bytes);
        snprintf(to->name, sizeof to->name, "%.*s", (int)t->name.n, t->name.p);
        to->src = t;
    }
}

static void add_sketch(struct pack *p, uint32_t layer)
{
    const struct hparams *hp = model_hparams(p->m);
    const struct tensor *first = model_find(p->m, hp->gated ? TR_GATE : TR_UP, layer);
    static const struct {
        enum pack_kind kind;
        const char *name;
    } sketch[] = { { PACK_SKETCH, "ffn_sketch" },
                   { PACK_NORM, "ffn_sketch_norm" },
                   { PACK_ERR, "ffn_sketch_err" } };
    enum dtype type = bundle_sketch_type(&p->b);
    for (size_t i = 0; i < 3; i++) {
        bool matrix = sketch[i].kind == PACK_SKETCH;
        struct pack_tensor *t =
            matrix ? add(p, PACK_SKETCH, type, hp->n_embd, hp->n_ff,
                         dtype_row_bytes(type, hp->n_embd) * hp->n_ff)
                   : add(p, sketch[i].kind, DT_F32, hp->n_ff, 0, 4 * (uint64_t)hp->n_ff);
        snprintf(t->name, sizeof t->name, "blk.%" PRIu32 ".%s.weight", layer, sketch[i].name);
        t->src = first;
        t->sketch_type = type;
        p->mask_bytes += t->bytes;
    }
}

static void add_predictor(struct pack *p, uint32_t layer)
{
    const struct predictor *pr = &p->pred;
    const struct predictor_layer *l = &pr->layer[layer];
    const struct {
        const char *name;
        enum dtype type;
        uint64_t ne0, ne1, bytes;
        const void *data;
    } part[] = {
        { "ffn_pred_a.weight", l->a_type, pr->n_embd, l->rank, l->a_bytes, l->a },
        { "ffn_pred_b.weight", l->b_type, l->rank, pr->n_ff, l->b_bytes, l->b },
        { "ffn_pred.bias", DT_F32, pr->n_ff, 0, 4 * (uint64_t)pr->n_ff, l->bias },
    };
    for (size_t i = 0; i < 3; i++) {
        struct pack_tensor *t =
            add(p, PACK_DATA, (uint32_t)part[i].type, part[i].ne0, part[i].ne1, part[i].bytes);
        snprintf(t->name, sizeof t->name, "blk.%" PRIu32 ".%s", layer, part[i].name);
        t->data = part[i].data;
        p->mask_bytes += t->bytes;
    }
}

static void add_layer(struct pack *p, uint32_t layer)
{
    uint32_t n_ff = model_hparams(p->m)->n_ff;
    if (bundle_has_sketch(&p->b))
        add_sketch(p, layer);
    if (p->b.mask == BUNDLE_LOWRANK)
        add_predictor(p, layer);
    if (p->rate) {
        struct pack_tensor *t = add(p, PACK_DATA, DT_F32, n_ff, 0, 4 * (uint64_t)n_ff);
        snprintf(t->name, sizeof t->name, "blk.%" PRIu32 ".ffn_rate.weight", layer);
        t->data = p->rate + (size_t)layer * n_ff;
    }
}

enum { DT_ID_I8 = 24, DT_ID_I64 = 27 };

static enum status make_table(struct pack *p, struct err *err)
{
    uint32_t n_layer = p->b.n_layer;
    p->tensor = calloc((size_t)model_n_tensor(p->m) + 5 * (size_t)n_layer + 1, sizeof *p->tensor);
    if (!p->tensor)
        return err_set(err, ST_NOMEM, "tensor table");
    add_copies(p);
    for (uint32_t l = 0; l < n_layer; l++)
        add_layer(p, l);
    for (uint32_t l = 0; l < n_layer; l++) {
        struct pack_tensor *t = add(p, PACK_BUNDLE, DT_ID_I8, p->b.stride, p->b.n_neuron,
                                    (uint64_t)p->b.stride * p->b.n_neuron);
        snprintf(t->name, sizeof t->name, "blk.%" PRIu32 ".ffn_bundle.weight", l);
        t->layer = l;
    }
    uint32_t n = p->n_tensor + 1;
    struct pack_tensor *t = add(p, PACK_COPY, DT_ID_I64, n, 0, 8 * (uint64_t)n);
    snprintf(t->name, sizeof t->name, "%s", PACK_SUMS);
    p->sums = calloc(n, sizeof *p->sums);
    return p->sums ? ST_OK : err_set(err, ST_NOMEM, "checksums");
}

/* ---- the header ---- */

static uint64_t hash_data(const struct pack *p)
{
    uint64_t h = 0;
    for (uint32_t i = 0; i < p->n_tensor; i++)
        if (p->tensor[i].kind == PACK_DATA)
            h = hash_chain(h, p->tensor[i].data, (size_t)p->tensor[i].bytes);
    return h;
}

static enum status make_head(struct pack *p, struct err *err)
{
    static const char *const ours[] = { "general.alignment", "strobe.activation", "split.no",
                                        "split.count", "split.tensors.count" };
    const struct gguf *g = model_gguf(p->m);
    struct gguf_writer w;
    char act[ACT_TEXT_MAX];
    gw_init(&w);
    w.align = FILE_ALIGN;
    for (uint64_t i = 0; i < gguf_n_kv(g); i++) {
        const struct gguf_kv *kv = gguf_kv_at(g, i);
        bool skip = str_starts(kv->key, STR("strobe.pack."));
        for (size_t k = 0; k < sizeof ours / sizeof ours[0]; k++)
            skip |= str_is(kv->key, ours[k]);
        if (!skip)
            gw_kv(&w, kv);
    }
    /* The activation was decided once; the packed file says it, whatever it is called. */
    gw_str(&w, "strobe.activation", hparams_act_text(model_hparams(p->m), act));
    gw_u32(&w, "general.alignment", FILE_ALIGN);
    gw_u32(&w, "strobe.pack.version", BUNDLE_VERSION);
    gw_str(&w, "strobe.pack.mask", bundle_mask_name(p->b.mask));
    gw_u32(&w, "strobe.pack.row_type", (uint32_t)p->b.row_type);
    gw_u32(&w, "strobe.pack.down_type", (uint32_t)p->b.down_type);
    gw_u32(&w, "strobe.pack.stride", p->b.stride);
    gw_str(&w, "strobe.pack.source", model_hash(p->m));
    /* So that a run with another trace or predictor does not go on with this one's file. */
    if (p->rate)
        gw_u64(&w, "strobe.pack.rates",
               hash_chain(0, p->rate, (size_t)p->b.n_layer * p->b.n_neuron * sizeof *p->rate));
    if (p->b.mask == BUNDLE_LOWRANK) {
        gw_u64(&w, "strobe.pack.predictor", hash_data(p));
        gw_f32(&w, "strobe.pack.over_load", (float)p->pred.over_load);
    }
    for (uint32_t i = 0; i < p->n_tensor; i++) {
        const struct pack_tensor *t = &p->tensor[i];
        gw_tensor_at(&w, t->name, t->type, t->n_dim, t->ne, t->offset);
    }
    gw_bytes(&w, &p->head);
    gw_clear(&w);
    p->sums[p->n_tensor - 1] = hash_chain(0, p->head.p, p->head.n);
    return buf_ok(&p->head, "header", err);
}

/* ---- the file ---- */

static enum status write_all(struct pack *p, const void *data, size_t n, struct err *err)
{
    const char *at = data;
    while (n > 0) {
        ssize_t put = write(p->fd, at, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0) {
            err_sys(err, errno, "write");
            return err_ctx(err, "'%s'", p->path);
        }
        at += put;
        n -= (size_t)put;
    }
    return ST_OK;
}

static enum status flush(struct pack *p, struct err *err)
{
    if (write_all(p, p->out, p->n_out, err) != ST_OK)
        return err->code;
    p->sum = hash_chain(p->sum, p->out, p->n_out);
    p->written += p->n_out;
    p->n_out = 0;
    if (p->o->progress)
        p->o->progress(p->o->ctx, "packing", p->written, p->data_bytes);
    return ST_OK;
}

static enum status put(void *ctx, const void *data, size_t n, struct err *err)
{
    struct pack *p = ctx;
    const uint8_t *at = data;
    while (n > 0) {
        size_t take = OUT_BYTES - p->n_out < n ? OUT_BYTES - p->n_out : n;
        memcpy(p->out + p->n_out, at, take);
        p->n_out += take;
        at += take;
        n -= take;
        if (p->n_out == OUT_BYTES && flush(p, err) != ST_OK)
            return err->code;
    }
    return ST_OK;
}

/* Zeros up to the next tensor; not part of the checksum. */
static enum status pad(struct pack *p, const struct pack_tensor *t, struct err *err)
{
    static const uint8_t zero[FILE_ALIGN];
    size_t n = (size_t)(-t->bytes % FILE_ALIGN);
    p->written += n;
    return write_all(p, zero, n, err);
}

static enum status make_tensor(struct pack *p, uint32_t i, struct err *err)
{
    const struct pack_sink sink = { put, p };
    const struct pack_tensor *t = &p->tensor[i];
    p->sum = 0;
    if (i + 1 == p->n_tensor)
        put(p, p->sums, (size_t)t->bytes, err);
    else
        pack_data(&p->r, &p->b, t, &sink, err);
    if (err->code != ST_OK || flush(p, err) != ST_OK || pad(p, t, err) != ST_OK)
        return err->code;
    if (i + 1 < p->n_tensor)
        p->sums[i] = p->sum;
    return ST_OK;
}

/* ---- going on where an earlier run stopped ---- */

static bool read_back(const struct pack *p, void *dst, size_t n, uint64_t at)
{
    char *d = dst;
    while (n > 0) {
        ssize_t got = pread(p->fd, d, n, (off_t)at);
        if (got <= 0)
            return false;
        d += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return true;
}

static bool same_head(const struct pack *p)
{
    char *old = malloc(p->head.n);
    bool same = old && read_back(p, old, p->head.n, 0) && memcmp(old, p->head.p, p->head.n) == 0;
    free(old);
    return same;
}

/* The first tensor to make; those before it are whole, their sums taken again. */
static uint32_t kept_tensors(struct pack *p)
{
    struct stat st;
    uint32_t n = 0;
    if (fstat(p->fd, &st) != 0 || !same_head(p))
        return 0;
    while (n + 1 < p->n_tensor && (uint64_t)st.st_size >= p->head.n + p->tensor[n + 1].offset) {
        const struct pack_tensor *t = &p->tensor[n];
        p->sum = 0;
        for (uint64_t at = 0; at < t->bytes; at += OUT_BYTES) {
            size_t k = t->bytes - at < OUT_BYTES ? (size_t)(t->bytes - at) : OUT_BYTES;
            if (!read_back(p, p->out, k, p->head.n + t->offset + at))
                return n;
            p->sum = hash_chain(p->sum, p->out, k);
        }
        p->sums[n++] = p->sum;
    }
    return n;
}

static enum status write_file(struct pack *p, struct pack_report *rep, struct err *err)
{
    p->fd = open(p->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (p->fd < 0) {
        err_sys(err, errno, "open");
        return err_ctx(err, "'%s'", p->path);
    }
    uint32_t from = kept_tensors(p);
    uint64_t keep = from ? p->head.n + p->tensor[from].offset : 0;
    rep->resumed_bytes = keep;
    p->written = from ? p->tensor[from].offset : 0;
    if (ftruncate(p->fd, (off_t)keep) != 0 || lseek(p->fd, (off_t)keep, SEEK_SET) < 0)
        return err_sys(err, errno, "truncate");
    if (!from && write_all(p, p->head.p, p->head.n, err) != ST_OK)
        return err->code;
    for (uint32_t i = from; i < p->n_tensor; i++)
        if (make_tensor(p, i, err) != ST_OK)
            return err->code;
    if (fsync(p->fd) != 0)
        return err_sys(err, errno, "fsync");
    if (rename(p->path, p->o->out) != 0) {
        err_sys(err, errno, "rename");
        return err_ctx(err, "'%s' to '%s'", p->path, p->o->out);
    }
    return ST_OK;
}

/* ---- checks and choices ---- */

static enum status check(const struct model *m, const struct pack_opts *o, struct err *err)
{
    const struct hparams *hp = model_hparams(m);
    if (!o->out || !o->out[0])
        return err_set(err, ST_ARG, "pack: no output file (-o OUT.gguf)");
    if (!model_gguf(m))
        return err_set(err, ST_UNSUPPORTED, "pack reads GGUF files, this is a folder");
    if (model_bundle(m))
        return err_set(err, ST_UNSUPPORTED, "the model is packed already");
    if (model_hparams(m)->duo.n_ff)
        return err_set(err, ST_UNSUPPORTED,
                       "a Duo model: its big parts are streamed as they are, routes skip them");
    if (!hparams_exact_zeros(hp) && o->mask != PACK_MASK_RESIDENT)
        return err_set(err, ST_UNSUPPORTED,
                       "only ReLU models have neurons that can be skipped exactly; this one has "
                       "another activation: serve it as it is, dense streaming needs no packing "
                       "(--mask resident packs it for --keep, which is not exact)");
    if ((o->mask == PACK_MASK_LOWRANK) != (o->predictor != NULL))
        return err_set(
            err, ST_ARG,
            "--mask lowrank and --predictor FILE go together: strobe predictor makes the "
            "file");
    return ST_OK;
}

/* Neurons are numbered, and fire, as in the model that it was trained for. */
static enum status read_predictor(struct pack *p, struct err *err)
{
    const struct hparams *hp = model_hparams(p->m);
    struct predictor *pr = &p->pred;
    char act[ACT_TEXT_MAX];
    hparams_act_text(hp, act);
    if (predictor_read(p->o->predictor, pr, err) != ST_OK)
        return err->code;
    if (strcmp(pr->model, model_hash(p->m)) != 0 || pr->n_layer != hp->n_layer ||
        pr->n_embd != hp->n_embd || pr->n_ff != hp->n_ff)
        return err_set(err, ST_ARG, "the predictor '%s' is of another model: train one of this",
                       p->o->predictor);
    if (strcmp(pr->activation, act) != 0)
        return err_set(err, ST_ARG, "the predictor '%s' was trained with activation %s, this is %s",
                       p->o->predictor, pr->activation, act);
    return ST_OK;
}

static enum bundle_mask mask_of(const struct pack *p, enum dtype row)
{
    switch (p->o->mask) {
    case PACK_MASK_RESIDENT:
        return BUNDLE_RESIDENT;
    case PACK_MASK_SKETCH:
        return BUNDLE_SKETCH;
    case PACK_MASK_SKETCH4:
        return BUNDLE_SKETCH4;
    case PACK_MASK_LOWRANK:
        return BUNDLE_LOWRANK;
    case PACK_MASK_AUTO:
        break;
    }
    return dtype_is_plain(row) && !model_hparams(p->m)->gated ? BUNDLE_SKETCH : BUNDLE_RESIDENT;
}

/* Direct reads on that disk; the file system of a file that does not exist yet is its folder's. */
static uint32_t disk_align(const char *path)
{
    uint32_t align = FILE_ALIGN;
#ifdef STATX_DIOALIGN
    struct statx st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) == 0 &&
        (st.stx_mask & STATX_DIOALIGN) && st.stx_dio_offset_align)
        align = st.stx_dio_offset_align;
    if (fd >= 0)
        close(fd);
#else
    (void)path;
#endif
    return align < BUNDLE_PART_ALIGN ? BUNDLE_PART_ALIGN : align > FILE_ALIGN ? FILE_ALIGN : align;
}

static enum status choose(struct pack *p, struct err *err)
{
    const struct hparams *hp = model_hparams(p->m);
    const struct tensor *up = model_find(p->m, TR_UP, 0), *down = model_find(p->m, TR_DOWN, 0);
    enum dtype row = p->o->type >= 0 ? (enum dtype)p->o->type : up->type;
    enum dtype vec = p->o->type >= 0 ? (enum dtype)p->o->type : down->type;
    enum bundle_mask mask = mask_of(p, row);
    if ((mask == BUNDLE_SKETCH || mask == BUNDLE_SKETCH4) &&
        dtype_row_bytes(DT_Q8_0, hp->n_embd) == 0)
        return err_set(err, ST_UNSUPPORTED, "a sketch needs rows of 32 elements, not %u",
                       hp->n_embd);
    uint32_t align = p->o->align ? p->o->align : disk_align(model_file(p->m, 0));
    return bundle_layout(hp, mask, row, vec, align, &p->b, err);
}

static enum status open_files(struct pack *p, struct err *err)
{
    uint32_t n = model_n_file(p->m);
    p->r = (struct pack_reader){ p->m, malloc(n * sizeof *p->r.fd) };
    p->out = malloc(OUT_BYTES);
    size_t cap = strlen(p->o->out) + sizeof ".partial";
    p->path = malloc(cap);
    if (p->r.fd) {
        memset(p->r.fd, 0xff, n * sizeof *p->r.fd); /* -1 */
        p->n_fd = n;
    }
    if (!p->r.fd || !p->out || !p->path)
        return err_set(err, ST_NOMEM, "pack buffers");
    snprintf(p->path, cap, "%s.partial", p->o->out);
    for (uint32_t i = 0; i < n; i++) {
        p->r.fd[i] = open(model_file(p->m, i), O_RDONLY | O_CLOEXEC);
        if (p->r.fd[i] < 0) {
            err_sys(err, errno, "open");
            return err_ctx(err, "'%s'", model_file(p->m, i));
        }
    }
    return ST_OK;
}

static void clear(struct pack *p)
{
    for (uint32_t i = 0; i < p->n_fd; i++)
        if (p->r.fd[i] >= 0)
            close(p->r.fd[i]);
    if (p->fd >= 0)
        close(p->fd);
    free(p->r.fd);
    free(p->out);
    free(p->path);
    free(p->tensor);
    free(p->sums);
    free(p->rate);
    predictor_clear(&p->pred);
    buf_clear(&p->head);
}

enum status pack_run(const struct model *m, const struct pack_opts *opts, struct pack_report *ret,
                     struct err *err)
{
    struct pack p = { .m = m, .o = opts, .fd = -1 };
    struct pack_report rep = { 0 };
    if (check(m, opts, err) != ST_OK || choose(&p, err) != ST_OK)
        return err->code;
    if (opts->rates &&
        rates_read(opts->rates, model_hash(m), p.b.n_layer, p.b.n_neuron, &p.rate, err) != ST_OK)
        return err->code;
    if ((!opts->predictor || read_predictor(&p, err) == ST_OK) && open_files(&p, err) == ST_OK &&
        make_table(&p, err) == ST_OK && make_head(&p, err) == ST_OK &&
        write_file(&p, &rep, err) == ST_OK) {
        rep.bytes = p.head.n + p.data_bytes;
        rep.stride = p.b.stride;
        rep.n_bundle = p.b.n_layer * p.b.n_neuron;
        rep.mask = bundle_mask_name(p.b.mask);
        rep.mask_bytes = p.mask_bytes;
        rep.rates = p.rate != NULL;
        *ret = rep;
    }
    clear(&p);
    return err->code;
}
