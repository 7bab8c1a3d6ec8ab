/* server/cli_corpus_eval.c - `strobe corpus eval`: asks a model word problems through its chat
 * template, greedily, as many at a time as it has slots, and counts the answers whose last "####"
 * is followed by the right number. The engine thread fills an ask under the lock; this thread
 * submits, waits and scores, in the order of the items. */
#include "engine/base/clock.h"
#include "server/cli_corpus.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>

struct ask {
    struct exam *exam;
    struct corpus_item item;
    struct buf text;
    bool busy, done, failed;
};

struct exam {
    struct engine *engine;
    pthread_mutex_t lock;
    pthread_cond_t moved;
    struct err err; /* of the first request that failed */
    struct ask *ask;
    size_t n_ask;
    struct tallies tallies;
    uint64_t n_token;
    FILE *out;
    bool wanted[CORPUS_SPLITS];
};

static void on_event(void *ctx, const struct gen_event *ev)
{
    struct ask *a = ctx;
    struct exam *x = a->exam;
    if (ev->kind != GEN_TOKEN && ev->kind != GEN_DONE)
        return;
    pthread_mutex_lock(&x->lock);
    buf_str(&a->text, ev->text);
    if (ev->kind == GEN_DONE) {
        if (ev->finish == FINISH_ERROR && ev->err && x->err.code == ST_OK)
            x->err = *ev->err;
        x->n_token += ev->completion_tokens;
        a->failed = ev->finish == FINISH_ERROR;
        a->done = true;
        pthread_cond_signal(&x->moved);
    }
    pthread_mutex_unlock(&x->lock);
}

/* The prompt: the model's own chat template around the question. A template that writes BOS itself
 * must not get a second one. */
static enum status make_prompt(const struct engine *e, struct str question, struct token_list *ret,
                               struct err *err)
{
    struct buf text = BUF_INIT;
    int32_t bos = engine_info(e)->bos;
    json_t *doc =
        json_pack("{s:[{s:s, s:o}]}", "messages", "role", "user", "content", json_text(question));
    if (!doc)
        err_set(err, ST_NOMEM, "chat request");
    else if (engine_apply_template(e, doc, &text, err) == ST_OK &&
             engine_tokenize(e, buf_view(&text), true, true, ret, err) == ST_OK && bos >= 0 &&
             ret->n >= 2 && ret->id[0] == bos && ret->id[1] == bos) {
        memmove(ret->id, ret->id + 1, (ret->n - 1) * sizeof *ret->id);
        ret->n--;
    }
    json_free(doc);
    buf_clear(&text);
    return err->code;
}

static enum status submit(struct exam *x, struct ask *a, uint64_t max_tokens, struct err *err)
{
    struct token_list prompt = { 0 };
    struct gen_params p;
    uint64_t id;
    gen_params_init(&p);
    p.temperature = 0;
    p.max_tokens = (uint32_t)max_tokens;
    buf_reset(&a->text);
    a->done = a->failed = false;
    a->busy = true;
    if (make_prompt(x->engine, buf_view(&a->item.question), &prompt, err) != ST_OK ||
        engine_submit(x->engine, prompt.id, prompt.n, &p, on_event, a, &id, err) != ST_OK)
        a->busy = false;
    token_list_clear(&prompt);
    return err->code;
}

static enum status keep_answer(struct exam *x, const struct ask *a, bool said, int64_t number,
                               struct err *err)
{
    const struct corpus_item *it = &a->item;
    struct buf line = BUF_INIT;
    buf_printf(&line,
               "{\"id\":\"%s\",\"split\":\"%s\",\"family\":\"%s\",\"steps\":%u,\"gold\":%" PRId64
               ",\"number\":",
               it->id, corpus_split_name(it->split), it->family, it->steps, it->gold);
    if (said)
        buf_printf(&line, "%" PRId64, number);
    else
        buf_z(&line, "null");
    buf_z(&line, ",\"response\":");
    json_quote(&line, buf_view(&a->text));
    buf_z(&line, "}\n");
    if (buf_ok(&line, "answer", err) == ST_OK && fwrite(line.p, 1, line.n, x->out) != line.n)
        err_sys(err, errno, "write");
    buf_clear(&line);
    return err->code;
}

/* Waits for the ask and scores it. */
static enum status score(struct exam *x, struct ask *a, struct err *err)
{
    int64_t number = 0;
    pthread_mutex_lock(&x->lock);
    while (!a->done)
        pthread_cond_wait(&x->moved, &x->lock);
    pthread_mutex_unlock(&x->lock);
    a->busy = false;
    if (a->failed) {
        *err = x->err;
        return err_ctx(err, "%s", a->item.id);
    }
    if (buf_ok(&a->text, "answer", err) != ST_OK)
        return err->code;
    bool said = tallies_add(&x->tallies, a->item.split, str_c(a->item.family), a->item.steps,
                            a->item.gold, buf_view(&a->text), &number);
    return x->out ? keep_answer(x, a, said, number, err) : ST_OK;
}

static enum status run_split(struct exam *x, const struct cli_corpus *g, enum corpus_split split,
                             struct err *err)
{
    struct corpus_opts o = { g->seed, split, g->steps_min, g->steps_max };
    assert(x->n_ask > 0);
    for (uint64_t i = 0; i < g->n_eval + x->n_ask && err->code == ST_OK; i++) {
        struct ask *a = &x->ask[i % x->n_ask];
        if (a->busy && score(x, a, err) != ST_OK)
            break;
        if (i < g->n_eval && corpus_make(&o, CORPUS_PROBLEM, i, &a->item, err) == ST_OK)
            submit(x, a, g->max_tokens, err);
    }
    return err->code;
}

static enum status print_json(const struct exam *x, const struct cli_corpus *g, double seconds,
                              struct err *err)
{
    return cli_print_json(json_pack("{s:s, s:I, s:I, s:f, s:o}", "model",
                                    engine_info(x->engine)->model_id, "seed", (json_int_t)g->seed,
                                    "tokens", (json_int_t)x->n_token, "seconds", seconds, "splits",
                                    tallies_json(&x->tallies)),
                          err);
}

/* ---- setting up ---- */
static enum status want_splits(struct exam *x, const char *list, struct err *err)
{
    struct str rest = str_c(list ? list : "all");
    enum corpus_split one;
    if (str_is(rest, "all")) {
        for (int s = 0; s < CORPUS_SPLITS; s++)
            x->wanted[s] = s != CORPUS_TRAIN;
        return ST_OK;
    }
    for (;;) {
        size_t comma = str_find(rest, STR(","), 0);
        struct str name = { rest.p, comma == SIZE_MAX ? rest.n : comma };
        if (!corpus_split_find(name, &one))
            return err_set(err, ST_ARG, "--split: there is no '%.*s'", (int)name.n, name.p);
        x->wanted[one] = true;
        if (comma == SIZE_MAX)
            return ST_OK;
        rest.p += comma + 1;
        rest.n -= comma + 1;
    }
}

static enum status exam_run(struct cli *c, struct exam *x, const struct cli_corpus *g,
                            struct err *err)
{
    const struct engine_info *in = engine_info(x->engine);
    uint64_t from = clock_ns();
    x->n_ask = in->n_slot * 2 < in->queue_max ? in->n_slot * 2 : in->n_slot;
    x->ask = calloc(x->n_ask, sizeof *x->ask);
    if (!x->ask)
        return err_set(err, ST_NOMEM, "examination");
    if (tallies_init(&x->tallies, err) != ST_OK)
        return err->code;
    for (size_t i = 0; i < x->n_ask; i++)
        x->ask[i].exam = x;
    if (!c->json)
        tallies_head();
    for (int s = 0; s < CORPUS_SPLITS && err->code == ST_OK; s++)
        if (x->wanted[s] && run_split(x, g, (enum corpus_split)s, err) == ST_OK && !c->json)
            tallies_print(&x->tallies, (enum corpus_split)s);
    if (err->code != ST_OK || !c->json)
        return err->code;
    return print_json(x, g, clock_ms_since(from) / 1e3, err);
}

static void exam_clear(struct exam *x)
{
    engine_close(x->engine); /* ends what still runs: no event comes after it */
    for (size_t i = 0; x->ask && i < x->n_ask; i++) {
        corpus_item_clear(&x->ask[i].item);
        buf_clear(&x->ask[i].text);
    }
    free(x->ask);
    tallies_clear(&x->tallies);
    pthread_mutex_destroy(&x->lock);
    pthread_cond_destroy(&x->moved);
}

enum status cli_corpus_eval(struct cli *c, const struct cli_corpus *g, struct err *err)
{
    struct exam x = { .lock = PTHREAD_MUTEX_INITIALIZER,
                      .moved = PTHREAD_COND_INITIALIZER,
                      .err = ERR_INIT };
    struct engine_opts eo;
    char data[4096];
    if (want_splits(&x, g->splits, err) != ST_OK ||
        cli_engine_opts(c, &g->model, &eo, err) != ST_OK ||
        cli_data_dir(g->model.data_dir, data, err) != ST_OK)
        goto out;
    eo.cache_dir = data;
    if (g->out && !(x.out = fopen(g->out, "wb"))) {
        err_sys(err, errno, "open");
        err_ctx(err, "'%s'", g->out);
        goto out;
    }
    if (engine_open(&eo, &x.engine, err) == ST_OK) {
        cli_progress_end(c);
        exam_run(c, &x, g, err);
    }
out:
    if (x.out && fclose(x.out) != 0 && err->code == ST_OK) {
        err_sys(err, errno, "close");
        err_ctx(err, "'%s'", g->out);
    }
    exam_clear(&x);
    return err->code;
}
