/* server/cli_relufy.c - `strobe relufy`: a trained model becomes a sparse one; prints quality and
 * sparsity before, after the swap and after training. */
#include "engine/base/file.h"
#include "engine/base/num.h"
#include "engine/train/relufy.h"
#include "server/cli_train.h"

#include <math.h>
#include <stdlib.h>

struct words {
    const char *from, *to;
    uint64_t stage;
};

/* "from", "to" and "stage" of the settings' file; flags come first. The rest stays in *doc. */
static enum status take_own(json_t *doc, struct words *own, struct err *err)
{
    struct str from = { 0 }, to = { 0 };
    int64_t stage = 0;
    if (json_get_str(doc, "from", false, &from, err) != ST_OK ||
        json_get_str(doc, "to", false, &to, err) != ST_OK ||
        json_get_i64(doc, "stage", false, 1, 2, &stage, err) != ST_OK)
        return err->code;
    if (!own->from && from.n)
        own->from = from.p; /* jansson's strings end with NUL */
    if (!own->to && to.n)
        own->to = to.p;
    if (!own->stage)
        own->stage = (uint64_t)stage;
    return ST_OK;
}

static enum status read_file(const char *path, json_t **ret, struct err *err)
{
    struct buf text = BUF_INIT;
    if (file_slurp(path, 16 << 20, &text, err) == ST_OK &&
        json_parse_unique(buf_view(&text), path, ret, err) == ST_OK && !json_is_object(*ret))
        err_set(err, ST_FORMAT, "'%s' is not a JSON object", path);
    buf_clear(&text);
    return err->code;
}

/* Defaults, the model's shape, the file, flags; the new activation last. */
static enum status fresh(const struct cli *c, const struct train_words *w, json_t *doc,
                         const struct words *own, struct train_config *tc, struct err *err)
{
    struct net_shape shape;
    struct relufy_to to;
    if (!own->from)
        return err_set(err, ST_ARG, "no model to start from: give --from MODEL.gguf");
    if (relufy_config(own->from, tc, &shape, err) != ST_OK ||
        relufy_parse(str_c(own->to ? own->to : "relu"), own->stage ? (uint32_t)own->stage : 1,
                     shape.gated, &to, err) != ST_OK)
        return err->code;
    json_object_del(doc, "from");
    json_object_del(doc, "to");
    json_object_del(doc, "stage");
    if (doc && train_config_json(tc, doc, err) != ST_OK)
        return err_ctx(err, "'%s'", w->config);
    relufy_apply(&to, tc);
    return cli_train_flags(c, w, tc, err);
}

static enum status resolve(const struct cli *c, struct train_words *w, struct words *own,
                           struct train_config *tc, struct err *err)
{
    json_t *doc = NULL;
    if (cli_train_folder(w, err) != ST_OK)
        return err->code;
    char run_file[FILE_PATH_MAX];
    if (file_path(run_file, err, "%s/run.json", w->out) != ST_OK)
        return err->code;
    if (w->resume && file_is_regular(run_file)) {
        if (cli_train_of_run(tc, w->resume, err) == ST_OK)
            cli_train_flags(c, w, tc, err);
    } else if (!w->config ||
               (read_file(w->config, &doc, err) == ST_OK && take_own(doc, own, err) == ST_OK)) {
        fresh(c, w, doc, own, tc, err);
    }
    json_free(doc);
    return err->code;
}

/* ---- the report ---- */

/* A per cent; runs longer than a sequence have no share. */
static const char *percent(double share, char out[16])
{
    if (isfinite(share))
        snprintf(out, 16, "%.1f", 100 * share);
    else
        snprintf(out, 16, "-");
    return out;
}

static void print_point(const char *name, const struct relufy_point *p, double dense)
{
    if (!p->known)
        return;
    struct sparsity_layer m = sparsity_mean(p->layer, p->shape.n_layer);
    char run8[16], run32[16];
    printf("%-8s %10.4f %10.3f %7.1f %7.1f %7.1f %7.1f %7s %7s %8.2f\n", name, p->nats,
           exp(p->nats), 100 * m.down_in, 100 * m.qkv_in, 100 * m.ffn_in, 100 * m.dead,
           percent(m.unused[3], run8), percent(m.unused[5], run32),
           sparsity_flops(&p->shape, p->layer) / dense);
}

static void print_layers(const struct relufy_point *p)
{
    printf("\nlayer   zeros %%: down   qkv  gate/up   dead   unused by runs of 2, 8, 32, 128 "
           "tokens %%\n");
    for (uint32_t l = 0; l < p->shape.n_layer; l++) {
        const struct sparsity_layer *z = &p->layer[l];
        char run[4][16];
        printf("%5u %13.1f %6.1f %8.1f %6.1f %10s %6s %6s %6s\n", l, 100 * z->down_in,
               100 * z->qkv_in, 100 * z->ffn_in, 100 * z->dead, percent(z->unused[1], run[0]),
               percent(z->unused[3], run[1]), percent(z->unused[5], run[2]),
               percent(z->unused[7], run[3]));
    }
}

static enum status print_report(const struct cli *c, const char *dir, const struct relufy_report *r,
                                struct err *err)
{
    if (c->json) {
        json_t *doc = relufy_report_json(r);
        if (!doc || json_object_set_new(doc, "run", json_string(dir)) != 0 ||
            json_object_set_new(doc, "stopped", json_boolean(r->train.stopped)) != 0 ||
            json_object_set_new(doc, "model",
                                r->train.model[0] ? json_sprintf("%s/%s", dir, r->train.model)
                                                  : json_null()) != 0) {
            json_free(doc);
            return err_set(err, ST_NOMEM, "report");
        }
        return cli_print_json(doc, err);
    }
    double dense = sparsity_flops(&r->before.shape, NULL);
    printf("%-8s %10s %10s %7s %7s %7s %7s %7s %7s %8s\n", "", "nats/token", "perplexity",
           "down 0%", "qkv 0%", "ffn 0%", "dead %", "run 8 %", "run 32%", "FLOPs");
    print_point("before", &r->before, dense);
    print_point("swapped", &r->swapped, dense);
    print_point("after", &r->after, dense);
    if (r->after.known)
        print_layers(&r->after);
    if (r->train.model[0])
        printf("\nmodel: %s/%s\n", dir, r->train.model);
    return ST_OK;
}

static enum status run(struct cli *c, const struct train_words *w, const struct train_config *tc,
                       struct err *err)
{
    struct relufy_report r = { 0 };
    struct train_opts o = { .config = tc,
                            .dir = w->out,
                            .resume = w->resume != NULL,
                            .stop = cli_train_catch(),
                            .watch = cli_train_watch(c) };
    if (relufy_run(&o, &r, err) != ST_OK)
        return err->code;
    cli_progress_end(c);
    if (print_report(c, w->out, &r, err) == ST_OK)
        cli_train_stopped(w->out, &r.train, err);
    relufy_report_clear(&r);
    return err->code;
}

enum status cli_relufy(struct cli *c, struct err *err)
{
    struct cli_opts o;
    struct train_words w = { 0 };
    struct words own = { 0 };
    struct train_config tc = { 0 };
    bool done = true;
    cli_opts_init(&o, c, "strobe relufy --from MODEL.gguf --data TEXT --out DIR [--KEY VALUE...]",
                  "Swaps a trained model's activation for a sparse one and trains it on. DIR gets "
                  "what train writes, and relufy.json: perplexity and sparsity before, right after "
                  "the swap, and at the end. Settings are train's; the network's come from the "
                  "model.");
    cli_opt(&o, (struct opt){ "config", 0, OPT_STR, &w.config, 0, 0, "FILE",
                              "settings as a JSON object, also from, to and stage; flags override "
                              "them" });
    cli_opt(&o, (struct opt){ "out", 'o', OPT_STR, &w.out, 0, 0, "DIR", "the run's folder" });
    cli_opt(&o, (struct opt){ "resume", 0, OPT_STR, &w.resume, 0, 0, "DIR",
                              "go on with the run in DIR from its last checkpoint" });
    cli_opt(&o, (struct opt){ "from", 0, OPT_STR, &own.from, 0, 0, "FILE",
                              "the trained model, a GGUF file" });
    cli_opt(&o, (struct opt){ "to", 0, OPT_STR, &own.to, 0, 0, "ACT",
                              "relu (default), relu2, drelu, shifted_relu:B, fatrelu:T" });
    cli_opt(&o, (struct opt){ "stage", 0, OPT_COUNT, &own.stage, 1, 2, "N",
                              "1 (default): the feed-forward part; 2: also behind the norms" });
    if (cli_train_words(&o, c, &w, err) == ST_OK &&
        cli_parse(&o, c, NULL, 0, NULL, &done, err) == ST_OK && !done &&
        train_config_init(&tc, err) == ST_OK && resolve(c, &w, &own, &tc, err) == ST_OK)
        run(c, &w, &tc, err);
    train_config_clear(&tc);
    free(w.key);
    free(w.value);
    return err->code;
}
