/* engine/flash/predictor.c - see predictor.h. */
#include "engine/flash/predictor.h"

#include "engine/base/file.h"
#include "engine/base/num.h"
#include "engine/kernel/matrix.h"
#include "engine/model/gguf_write.h"
#include "engine/model/model.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { ALIGN = 32, EMBD_MAX = 1 << 20, FF_MAX = 1 << 24 };

enum dtype predictor_type(enum dtype want, uint32_t n_col)
{
    return dtype_row_bytes(want, n_col) ? want : DT_F16;
}

enum status predictor_init(struct predictor *p, uint32_t n_layer, uint32_t n_embd, uint32_t n_ff,
                           struct err *err)
{
    struct predictor_layer *layer = calloc(n_layer, sizeof *layer);
    if (!layer)
        return err_set(err, ST_NOMEM, "predictor");
    *p = (struct predictor){ .n_layer = n_layer, .n_embd = n_embd, .n_ff = n_ff, .layer = layer };
    return ST_OK;
}

void predictor_clear(struct predictor *p)
{
    for (uint32_t l = 0; p->layer && l < p->n_layer; l++) {
        free(p->layer[l].a);
        free(p->layer[l].b);
        free(p->layer[l].bias);
    }
    free(p->layer);
    *p = (struct predictor){ 0 };
}

uint64_t predictor_bytes(const struct predictor *p)
{
    uint64_t n = 0;
    for (uint32_t l = 0; l < p->n_layer; l++)
        n += p->layer[l].a_bytes + p->layer[l].b_bytes + (uint64_t)p->n_ff * sizeof(float);
    return n;
}

/* One of a layer's three tensors. */
struct part {
    char name[64];
    enum dtype type;
    uint32_t n_dim;
    uint64_t ne[2], bytes;
    const void *data;
};

static struct part part_of(const struct predictor *p, uint32_t layer, int i)
{
    static const char *const name[] = { "ffn_pred_a.weight", "ffn_pred_b.weight", "ffn_pred.bias" };
    const struct predictor_layer *l = &p->layer[layer];
    struct part r[] = {
        { .type = l->a_type,
          .n_dim = 2,
          .ne = { p->n_embd, l->rank },
          .bytes = l->a_bytes,
          .data = l->a },
        { .type = l->b_type,
          .n_dim = 2,
          .ne = { l->rank, p->n_ff },
          .bytes = l->b_bytes,
          .data = l->b },
        { .type = DT_F32,
          .n_dim = 1,
          .ne = { p->n_ff, 1 },
          .bytes = 4 * (uint64_t)p->n_ff,
          .data = l->bias },
    };
    snprintf(r[i].name, sizeof r[i].name, "blk.%" PRIu32 ".%s", layer, name[i]);
    return r[i];
}

/* ---- writing ---- */

static enum status put_head(const struct predictor *p, int fd, const char *path, struct err *err)
{
    struct gguf_writer w;
    struct buf head = BUF_INIT;
    uint64_t offset = 0;
    gw_init(&w);
    gw_str(&w, "general.architecture", "strobe-predictor");
    gw_u32(&w, "strobe.predictor.version", PREDICTOR_VERSION);
    gw_str(&w, "strobe.predictor.model", p->model);
    gw_str(&w, "strobe.predictor.activation", p->activation);
    gw_u32(&w, "strobe.predictor.block_count", p->n_layer);
    gw_u32(&w, "strobe.predictor.embedding_length", p->n_embd);
    gw_u32(&w, "strobe.predictor.feed_forward_length", p->n_ff);
    gw_f32(&w, "strobe.predictor.recall", (float)p->recall);
    gw_f32(&w, "strobe.predictor.over_load", (float)p->over_load);
    for (uint32_t l = 0; l < p->n_layer; l++)
        for (int i = 0; i < 3; i++) {
            struct part t = part_of(p, l, i);
            gw_tensor_at(&w, t.name, (uint32_t)t.type, t.n_dim, t.ne, offset);
            offset += num_align(t.bytes, ALIGN);
        }
    gw_bytes(&w, &head);
    gw_clear(&w);
    if (buf_ok(&head, "header", err) == ST_OK)
        file_write(fd, head.p, head.n, path, err);
    buf_clear(&head);
    return err->code;
}

static enum status put_all(const struct predictor *p, int fd, const char *path, struct err *err)
{
    static const uint8_t zero[ALIGN];
    put_head(p, fd, path, err);
    for (uint32_t l = 0; l < p->n_layer; l++)
        for (int i = 0; i < 3 && err->code == ST_OK; i++) {
            struct part t = part_of(p, l, i);
            if (file_write(fd, t.data, t.bytes, path, err) == ST_OK)
                file_write(fd, zero, num_align(t.bytes, ALIGN) - t.bytes, path, err);
        }
    if (err->code == ST_OK && fsync(fd) != 0)
        err_sys(err, errno, "fsync");
    return err->code;
}

enum status predictor_write(const struct predictor *p, const char *name, struct err *err)
{
    char path[FILE_PATH_MAX];
    if (file_target(name, path, err) != ST_OK)
        return err->code;
    size_t cap = strlen(path) + sizeof ".partial";
    char *partial = malloc(cap);
    if (!partial)
        return err_set(err, ST_NOMEM, "predictor");
    snprintf(partial, cap, "%s.partial", path);
    int fd = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) {
        err_sys(err, errno, "open");
        err_ctx(err, "'%s'", partial);
    } else {
        put_all(p, fd, path, err);
        close(fd);
        if (err->code == ST_OK && rename(partial, path) != 0) {
            err_sys(err, errno, "rename");
            err_ctx(err, "'%s'", path);
        }
        if (err->code != ST_OK)
            unlink(partial);
    }
    free(partial);
    return err->code;
}

/* ---- reading ---- */

struct in {
    const struct gguf *g;
    int fd;
};

/* Bytes of the tensor, in new memory. */
static enum status load(const struct in *in, const struct gguf_tensor *t, uint8_t **ret,
                        struct err *err)
{
    uint8_t *p = malloc((size_t)t->bytes);
    if (!p)
        return err_set(err, ST_NOMEM, "predictor");
    if (file_read_at(in->fd, p, (size_t)t->bytes, t->offset, NULL, err) != ST_OK) {
        free(p);
        return err->code;
    }
    *ret = p;
    return ST_OK;
}

/* ne1: 0 for any length of the second axis, 1 to n_embd. */
static const struct gguf_tensor *find(const struct in *in, const struct predictor *p,
                                      const char *name, const uint64_t ne[2], struct err *err)
{
    const struct gguf_tensor *t = gguf_tensor_find(in->g, name);
    const struct dtype_info *info = t ? dtype_info((uint32_t)t->type) : NULL;
    if (!t) {
        err_set(err, ST_FORMAT, "tensor '%s' is missing", name);
        return NULL;
    }
    uint64_t most = ne[1] ? ne[1] : p->n_embd, least = ne[1] ? ne[1] : 1;
    if (t->ne[0] != ne[0] || t->ne[1] < least || t->ne[1] > most || t->ne[2] != 1 ||
        t->ne[3] != 1) {
        err_set(err, ST_FORMAT,
                "tensor '%s': expected shape {%" PRIu64 ", %" PRIu64 " to %" PRIu64
                "}, found {%" PRIu64 ", %" PRIu64 "}",
                name, ne[0], least, most, t->ne[0], t->ne[1]);
        return NULL;
    }
    if (!info || !info->supported) {
        err_set(err, ST_UNSUPPORTED, "tensor '%s': type %s", name, info ? info->name : "?");
        return NULL;
    }
    return t;
}

/* A number that is none would let a neuron pass always, or never. */
static enum status check_finite(const struct gguf_tensor *t, const uint8_t *data, const char *name,
                                struct err *err)
{
    size_t n = (size_t)t->ne[0], row = dtype_row_bytes(t->type, n);
    float *f = malloc(n * sizeof *f);
    if (!f)
        return err_set(err, ST_NOMEM, "predictor");
    for (uint64_t r = 0; r < t->ne[1] && err->code == ST_OK; r++) {
        dtype_to_f32(t->type, data + r * row, f, n);
        for (size_t i = 0; i < n; i++)
            if (!isfinite(f[i])) {
                err_set(err, ST_FORMAT, "tensor '%s' holds numbers that are not finite", name);
                break;
            }
    }
    free(f);
    return err->code;
}

static enum status read_part(const struct in *in, struct predictor *p, uint32_t layer, int i,
                             struct err *err)
{
    struct predictor_layer *l = &p->layer[layer];
    struct part want = part_of(p, layer, i); /* of A the rank is not known yet */
    uint8_t *data = NULL;
    const struct gguf_tensor *t = find(in, p, want.name, want.ne, err);
    if (!t || load(in, t, &data, err) != ST_OK)
        return err->code;
    if (i == 2 && t->type != DT_F32)
        err_set(err, ST_FORMAT, "tensor '%s' must be F32", want.name);
    else
        check_finite(t, data, want.name, err);
    if (i == 0) {
        l->rank = (uint32_t)t->ne[1];
        l->a = data;
        l->a_type = t->type;
        l->a_bytes = t->bytes;
    } else if (i == 1) {
        l->b = data;
        l->b_type = t->type;
        l->b_bytes = t->bytes;
    } else {
        l->bias = (float *)(void *)data;
    }
    return err->code;
}

static enum status read_length(const struct gguf *g, const char *key, uint32_t max, uint32_t *ret,
                               struct err *err)
{
    int64_t v = 0;
    enum status st = gguf_get_i64(g, key, true, 1, max, &v, err);
    *ret = (uint32_t)v;
    return st;
}

static enum status read_head(const struct gguf *g, struct predictor *p, struct err *err)
{
    uint32_t version, n_layer, n_embd, n_ff;
    struct str arch = { 0 }, model = { 0 }, act = { 0 };
    double recall = 0, over_load = 0;
    if (gguf_get_str(g, "general.architecture", false, &arch, err) != ST_OK)
        return err->code;
    if (!str_is(arch, "strobe-predictor"))
        return err_set(err, ST_FORMAT, "not a predictor: strobe predictor -m MODEL makes one");
    if (read_length(g, "strobe.predictor.version", UINT32_MAX, &version, err) != ST_OK)
        return err->code;
    if (version != PREDICTOR_VERSION)
        return err_set(err, ST_UNSUPPORTED,
                       "strobe.predictor.version is %" PRIu32 ", this build reads %d", version,
                       PREDICTOR_VERSION);
    if (read_length(g, "strobe.predictor.block_count", MODEL_LAYERS_MAX, &n_layer, err) != ST_OK ||
        read_length(g, "strobe.predictor.embedding_length", EMBD_MAX, &n_embd, err) != ST_OK ||
        read_length(g, "strobe.predictor.feed_forward_length", FF_MAX, &n_ff, err) != ST_OK ||
        gguf_get_str(g, "strobe.predictor.model", true, &model, err) != ST_OK ||
        gguf_get_str(g, "strobe.predictor.activation", true, &act, err) != ST_OK ||
        gguf_get_f64(g, "strobe.predictor.recall", false, &recall, err) != ST_OK ||
        gguf_get_f64(g, "strobe.predictor.over_load", false, &over_load, err) != ST_OK ||
        predictor_init(p, n_layer, n_embd, n_ff, err) != ST_OK)
        return err->code;
    snprintf(p->model, sizeof p->model, "%.*s", (int)(model.n < 64 ? model.n : 64), model.p);
    snprintf(p->activation, sizeof p->activation, "%.*s", (int)(act.n < 63 ? act.n : 63), act.p);
    p->recall = recall > 0 && recall <= 1 ? recall : 0;
    p->over_load = over_load > 0 && over_load <= n_ff ? over_load : 0;
    return ST_OK;
}

enum status predictor_read(const char *path, struct predictor *ret, struct err *err)
{
    struct predictor p = { 0 };
    struct gguf *g;
    if (gguf_open(path, &g, err) != ST_OK)
        return err->code;
    struct in in = { g, -1 };
    if (gguf_n_file(g) != 1)
        err_set(err, ST_UNSUPPORTED, "a predictor in several files");
    else if (read_head(g, &p, err) == ST_OK) {
        in.fd = open(gguf_path(g, 0), O_RDONLY | O_CLOEXEC);
        if (in.fd < 0)
            err_sys(err, errno, "open");
    }
    for (uint32_t l = 0; l < p.n_layer && err->code == ST_OK; l++)
        for (int i = 0; i < 3 && err->code == ST_OK; i++)
            read_part(&in, &p, l, i, err);
    if (in.fd >= 0)
        close(in.fd);
    gguf_close(g);
    if (err->code != ST_OK) {
        predictor_clear(&p);
        return err_ctx(err, "'%s'", path);
    }
    *ret = p;
    return ST_OK;
}
