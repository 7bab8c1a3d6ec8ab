/* engine/flash/pack.c - see pack.h: what may be packed, the layout that is chosen, rates, predictor
 * and order that go into the file, one run. */
#include "engine/flash/pack.h"

#include "engine/base/file.h"
#include "engine/flash/pack_internal.h"
#include "engine/flash/rates.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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
    if (o->place != PLACE_NONE && !o->rates)
        return err_set(err, ST_ARG,
                       "--place %s needs --rates TRACE: what fires together is counted from a run "
                       "(generate --neuron-trace)",
                       place_name(o->place));
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

/* Everything that is in memory already gets the new order here. */
static enum status place(struct pack *p, struct err *err)
{
    uint32_t n = p->b.n_neuron;
    const struct place_in in = { .kind = p->o->place,
                                 .trace = p->o->rates,
                                 .rate = p->rate,
                                 .n_layer = p->b.n_layer,
                                 .n_neuron = n };
    if (place_find(&in, &p->order, err) != ST_OK || !p->order)
        return err->code;
    for (uint32_t l = 0; l < p->b.n_layer && err->code == ST_OK; l++) {
        const uint32_t *order = pack_order(p, l);
        place_rows(order, n, p->rate + (size_t)l * n, sizeof *p->rate, err);
        if (p->b.mask != BUNDLE_LOWRANK)
            continue;
        struct predictor_layer *pl = &p->pred.layer[l];
        if (err->code == ST_OK)
            place_rows(order, n, pl->b, dtype_row_bytes(pl->b_type, pl->rank), err);
        if (err->code == ST_OK)
            place_rows(order, n, pl->bias, sizeof *pl->bias, err);
    }
    return err->code;
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
    uint32_t align = PACK_ALIGN;
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
    return align < BUNDLE_PART_ALIGN ? BUNDLE_PART_ALIGN : align > PACK_ALIGN ? PACK_ALIGN : align;
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
    p->out = malloc(PACK_OUT_BYTES);
    p->target = malloc(FILE_PATH_MAX);
    size_t cap = FILE_PATH_MAX + sizeof ".partial";
    p->path = malloc(cap);
    if (p->r.fd) {
        memset(p->r.fd, 0xff, n * sizeof *p->r.fd); /* -1 */
        p->n_fd = n;
    }
    if (!p->r.fd || !p->out || !p->target || !p->path)
        return err_set(err, ST_NOMEM, "pack buffers");
    if (file_target(p->o->out, p->target, err) != ST_OK)
        return err->code;
    snprintf(p->path, cap, "%s.partial", p->target);
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
    free(p->target);
    free(p->path);
    free(p->tensor);
    free(p->sums);
    free(p->rate);
    free(p->order);
    predictor_clear(&p->pred);
    buf_clear(&p->head);
}

static enum status read_rates(struct pack *p, struct err *err)
{
    size_t n = (size_t)p->b.n_layer * p->b.n_neuron;
    float *half = NULL;
    if (rates_read(p->o->rates, model_hash(p->m), p->b.n_layer, p->b.n_neuron, &p->rate, &half,
                   err) != ST_OK)
        return err->code;
    p->b.rated = n >= BUNDLE_RATES;
    if (p->b.rated)
        rates_curve(half, n, BUNDLE_RATES, p->b.rate, err);
    free(half);
    return err->code;
}

static enum status read_inputs(struct pack *p, struct err *err)
{
    if (p->o->rates && read_rates(p, err) != ST_OK)
        return err->code;
    if (p->o->predictor && read_predictor(p, err) != ST_OK)
        return err->code;
    return place(p, err);
}

enum status pack_run(const struct model *m, const struct pack_opts *opts, struct pack_report *ret,
                     struct err *err)
{
    struct pack p = { .m = m, .o = opts, .fd = -1 };
    struct pack_report rep = { 0 };
    if (check(m, opts, err) != ST_OK || choose(&p, err) != ST_OK)
        return err->code;
    if (read_inputs(&p, err) == ST_OK && open_files(&p, err) == ST_OK &&
        pack_make_table(&p, err) == ST_OK && pack_make_head(&p, err) == ST_OK &&
        pack_write(&p, &rep, err) == ST_OK) {
        rep.bytes = p.head.n + p.data_bytes;
        rep.stride = p.b.stride;
        rep.n_bundle = p.b.n_layer * p.b.n_neuron;
        rep.mask = bundle_mask_name(p.b.mask);
        rep.mask_bytes = p.mask_bytes;
        rep.rates = p.rate != NULL;
        rep.place = place_name(opts->place);
        *ret = rep;
    }
    clear(&p);
    return err->code;
}
