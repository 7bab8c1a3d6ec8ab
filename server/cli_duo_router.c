/* server/cli_duo_router.c - `strobe duo router`: trains a router for a Duo model, calibrates it and
 * writes the model again with it. */
#include "engine/base/clock.h"
#include "engine/duo/router.h"
#include "engine/model/model.h"
#include "server/cli_duo.h"

#include <math.h>
#include <stdlib.h>

struct router_words {
    const char *model, *out, *file, *kind;
    double budget, alpha, tau, lr;
    uint64_t steps, rows, hidden, tokens, seed, choices;
};

static void declare(struct cli_opts *o, struct cli *c, struct router_words *w)
{
    struct duo_router_opts d;
    duo_router_defaults(&d);
    *w = (struct router_words){ .kind = "linear",
                                .budget = d.budget,
                                .alpha = d.alpha,
                                .tau = d.tau_to,
                                .lr = d.lr,
                                .steps = d.steps,
                                .rows = d.rows,
                                .hidden = d.n_hidden,
                                .tokens = 1 << 17,
                                .choices = d.n_choice,
                                .seed = 1 };
    cli_opts_init(
        o, c, "strobe duo router -m MODEL -o OUT.gguf [--file TEXT] [options]",
        "Trains a router that chooses big or small (or skip) for each token and layer, the model "
        "frozen; then sets, by measurement, the threshold for each budget.");
    cli_opt(o, (struct opt){ "model", 'm', OPT_STR, &w->model, 0, 0, "FILE", "a Duo model" });
    cli_opt(o, (struct opt){ "output", 'o', OPT_STR, &w->out, 0, 0, "FILE", "the model with it" });
    cli_opt(o, (struct opt){ "file", 0, OPT_STR, &w->file, 0, 0, "FILE",
                             "text; its last eighth calibrates (default: word problems)" });
    cli_opt(o, (struct opt){ "kind", 0, OPT_STR, &w->kind, 0, 0, "KIND",
                             "linear (default), mlp, straight, distil" });
    cli_opt(o, (struct opt){ "choices", 0, OPT_COUNT, &w->choices, 2, 3, "A",
                             "2: big or small (default); 3: or skip" });
    cli_opt(o, (struct opt){ "budget", 0, OPT_REAL, &w->budget, 0, 1, "SHARE",
                             "of big layers while it trains (default 0.5)" });
    cli_opt(o, (struct opt){ "alpha", 0, OPT_REAL, &w->alpha, 0, 1e6, "A",
                             "weight of the budget's square (default 20)" });
    cli_opt(o, (struct opt){ "tau", 0, OPT_REAL, &w->tau, 1, 1e4, "T",
                             "last inverse temperature, from 1 (default 20)" });
    cli_opt(o, (struct opt){ "lr", 0, OPT_REAL, &w->lr, 0, 10, "R", "Adam's rate (default 0.01)" });
    cli_opt(o, (struct opt){ "steps", 0, OPT_COUNT, &w->steps, 1, 1 << 30, "N", "(default 200)" });
    cli_opt(o, (struct opt){ "rows", 0, OPT_COUNT, &w->rows, 1, 4096, "N",
                             "sequences a step (default 4)" });
    cli_opt(o, (struct opt){ "hidden", 0, OPT_COUNT, &w->hidden, 1, DUO_HIDDEN_MAX, "N",
                             "neurons of kind mlp (default 32)" });
    cli_opt(o, (struct opt){ "tokens", 0, OPT_COUNT, &w->tokens, 256, DUO_TRACE_TOKENS_MAX, "N",
                             "of text (default 131072)" });
    cli_opt(o, (struct opt){ "seed", 's', OPT_COUNT, &w->seed, 0, 9007199254740992.0, "S", "" });
}

/* Training text and text to calibrate on. */
static enum status texts(const struct router_words *w, const struct duo_model *m,
                         struct duo_text t[2], struct err *err)
{
    size_t cols = m->shape.n_ctx < 256 ? m->shape.n_ctx : 256, val = w->tokens / 16 + 64;
    struct buf file = BUF_INIT;
    if (duo_text_init(&t[0], m, cols, w->tokens, err) != ST_OK ||
        duo_text_init(&t[1], m, cols, val < 4096 ? val : 4096, err) != ST_OK)
        return err->code;
    if (!w->file) {
        /* The test split's items, far from those that a trace begins with. */
        if (duo_text_symbolic(&t[0], m, w->seed + 1, 100000, err) == ST_OK)
            duo_text_symbolic(&t[1], m, w->seed + 1, 900000, err);
        return err->code;
    }
    if (cli_read_all(w->file, DUO_TEXT_BYTES_MAX, &file, err) == ST_OK) {
        size_t cut = file.n - file.n / 8;
        while (cut < file.n && ((unsigned char)file.p[cut] & 0xC0) == 0x80)
            cut++;
        struct str all = buf_view(&file);
        if (duo_text_plain(&t[0], m, (struct str){ all.p, cut }, false, err) == ST_OK)
            duo_text_plain(&t[1], m, (struct str){ all.p + cut, all.n - cut }, false, err);
    }
    buf_clear(&file);
    return err->code;
}

static enum dtype type_of(const char *path, struct buf *recipe, struct err *err)
{
    struct model *m = NULL;
    enum dtype type = DT_F16;
    struct str s = { NULL, 0 };
    if (model_open(path, NULL, &m, err) != ST_OK)
        return type;
    const struct tensor *t = model_find(m, TR_DOWN, 0);
    if (t && (t->type == DT_F32 || t->type == DT_BF16 || t->type == DT_Q8_0))
        type = t->type;
    if (gguf_get_str(model_gguf(m), "strobe.recipe", false, &s, err) == ST_OK && s.n)
        buf_str(recipe, s);
    model_close(m);
    return type;
}

static enum status write(const struct router_words *w, const struct duo_model *m,
                         const struct duo_router_result *r, struct err *err)
{
    struct buf recipe = BUF_INIT;
    enum dtype type = type_of(w->model, &recipe, err);
    if (err->code == ST_OK)
        export_gguf(&(struct export_opts){ .shape = &m->shape,
                                           .params = m->params,
                                           .vocab_path = w->model,
                                           .type = type,
                                           .name = m->name,
                                           .license = STR("Apache-2.0"),
                                           .recipe = buf_view(&recipe),
                                           .router = &r->router,
                                           .path = w->out },
                    err);
    buf_clear(&recipe);
    return err->code;
}

static json_t *table(const struct duo_router_result *r)
{
    json_t *a = json_array();
    for (uint32_t i = 0; a && i < r->router.hp.n_budget; i++)
        json_array_append_new(
            a, json_pack("{s:f, s:f, s:f, s:f}", "budget", (double)r->router.hp.budget[i],
                         "realised", r->val_hard[i], "threshold", (double)r->router.hp.threshold[i],
                         "nats", r->val_nats[i]));
    return a;
}

static enum status say(const struct cli *c, const struct router_words *w,
                       const struct duo_router_result *r, double s, struct err *err)
{
    if (c->json)
        return cli_print_json(json_pack("{s:s, s:s, s:I, s:I, s:f, s:f, s:f, s:f, s:o}", "model",
                                        w->out, "kind", w->kind, "choices", (json_int_t)w->choices,
                                        "steps", (json_int_t)r->steps, "loss", r->loss,
                                        "soft_budget", r->soft, "hard_budget", r->hard, "seconds",
                                        s, "budgets", table(r)),
                              err);
    printf("%s router, %llu steps: loss %.4f, soft budget %.3f, hard %.3f (%.1f s)\n", w->kind,
           (unsigned long long)r->steps, r->loss, r->soft, r->hard, s);
    printf("%8s %10s %12s %8s\n", "budget", "realised", "threshold", "nats");
    for (uint32_t i = 0; i < r->router.hp.n_budget; i++)
        printf("%8.2f %10.4f %12.4g %8.4f\n", (double)r->router.hp.budget[i], r->val_hard[i],
               (double)r->router.hp.threshold[i], r->val_nats[i]);
    printf("model: %s\n", w->out);
    return ST_OK;
}

static enum status run(struct cli *c, const struct router_words *w, struct err *err)
{
    struct duo_router_opts o;
    struct duo_model m = { .params = NULL };
    struct duo_text t[2] = { { .token = NULL }, { .token = NULL } };
    struct duo_router_result r = { .steps = 0 };
    struct pool *pool = NULL;
    uint64_t start = clock_ns();
    duo_router_defaults(&o);
    if (!duo_router_find(str_c(w->kind), &o.kind))
        return err_set(err, ST_ARG, "--kind: '%s' is none of linear, mlp, straight, distil",
                       w->kind);
    o.n_choice = (uint32_t)w->choices, o.budget = w->budget, o.alpha = w->alpha, o.tau_to = w->tau,
    o.lr = w->lr;
    o.steps = w->steps, o.rows = w->rows, o.n_hidden = (uint32_t)w->hidden, o.seed = w->seed;
    o.watch = (struct duo_watch){ cli_duo_step, c };
    cli_duo_catch();
    if (duo_model_open(w->model, &m, err) == ST_OK && texts(w, &m, t, err) == ST_OK &&
        pool_create(c->threads ? (unsigned)c->threads : pool_cores(), &pool, err) == ST_OK &&
        duo_router_train(&m, &t[0], &t[1], &o, pool, &r, err) == ST_OK &&
        write(w, &m, &r, err) == ST_OK) {
        cli_progress_end(c);
        say(c, w, &r, clock_ms_since(start) / 1000, err);
    }
    export_router_clear(&r.router);
    pool_free(pool);
    duo_text_clear(&t[0]);
    duo_text_clear(&t[1]);
    duo_model_close(&m);
    return err->code;
}

enum status cli_duo_router(struct cli *c, struct err *err)
{
    struct cli_opts o;
    struct router_words w;
    bool done = false;
    declare(&o, c, &w);
    if (cli_parse(&o, c, NULL, 0, NULL, &done, err) != ST_OK || done)
        return err->code;
    if (!w.model || !w.out)
        return err_set(err, ST_ARG, "give -m MODEL and -o OUT.gguf");
    if (cli_output(w.out, err) != ST_OK)
        return err->code;
    return run(c, &w, err);
}
