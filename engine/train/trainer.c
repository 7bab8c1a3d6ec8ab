/* engine/train/trainer.c - the steps of a training run: see trainer.h. */
#include "engine/train/trainer.h"

#include "engine/base/clock.h"
#include "engine/base/rss.h"
#include "engine/train/trainer_internal.h"

#include <inttypes.h>
#include <math.h>

static bool stop_asked(const struct trainer *t)
{
    return t->o->stop && *t->o->stop;
}

/* A process alone leaves the step that it is in: its gradients go, the checkpoint is that of the
 * step before. Ranks agree at a step's end. */
static bool leaves_step(const struct trainer *t)
{
    return t->reduce->n_rank == 1 && stop_asked(t);
}

/* ---- batches ---- */

static enum status load_rows(struct trainer *t, const struct data *d, const struct data_order *o,
                             uint64_t seq, uint32_t n, struct err *err)
{
    for (uint32_t r = 0; r < n; r++) {
        size_t at = (size_t)r * o->n_tok;
        if (data_seq(d, o, seq + r, t->token + at, t->target + at, t->weight + at, t->doc + at,
                     err) != ST_OK)
            return err->code;
    }
    return ST_OK;
}

static struct net_batch batch_of(const struct trainer *t, uint32_t n, bool masked)
{
    return (struct net_batch){ .rows = n,
                               .cols = t->config->ctx,
                               .token = t->token,
                               .target = t->target,
                               .weight = masked ? t->weight : NULL,
                               .doc = t->config->documents ? t->doc : NULL };
}

/* ---- a step ---- */

static void on_grad(void *user, uint64_t from, uint64_t to)
{
    struct trainer *t = user;
    t->reduce->begin(t->reduce->ctx, net_grads(t->net), from, to);
}

static bool goes_on(void *user)
{
    return !leaves_step(user);
}

/* What the ranks add up. */
enum { SUM_NLL, SUM_WEIGHT, SUM_STOP, SUMS };

static enum status run_passes(struct trainer *t, double *sum, struct err *err)
{
    const struct train_config *c = t->config;
    double scale = 1.0 / (double)train_config_step_tokens(c);
    for (uint32_t pass = 0; pass < c->accumulate && !leaves_step(t); pass++) {
        struct net_loss loss;
        uint64_t seq = t->state.seq + (uint64_t)pass * c->batch + t->row;
        if (load_rows(t, t->data.train.data, &t->order, seq, t->n_row, err) != ST_OK)
            return err->code;
        struct net_batch b = batch_of(t, t->n_row, t->data.info.masked);
        trainer_duo_route(t, seq, t->n_row, true);
        if (t->reduce->n_rank > 1 && pass + 1 == c->accumulate)
            net_on_grad(t->net, on_grad, t);
        net_on_layer(t->net, goes_on, t); /* what is measured on held-out text is not cut short */
        net_grad(t->net, &b, scale, &loss);
        net_on_layer(t->net, NULL, NULL);
        net_on_grad(t->net, NULL, NULL);
        sum[SUM_NLL] += loss.nll;
        sum[SUM_WEIGHT] += loss.weight;
    }
    return t->reduce->wait(t->reduce->ctx, err);
}

static enum status not_finite(const struct trainer *t, const char *what, double v, struct err *err)
{
    uint64_t step = t->state.step + 1;
    if (!t->run || !run_dir_has(t->run, "checkpoints/last"))
        return err_set(err, ST_DIVERGED,
                       "step %" PRIu64 ": the %s is %g; no checkpoint was written yet", step, what,
                       v);
    return err_set(err, ST_DIVERGED,
                   "step %" PRIu64 ": the %s is %g; '%s/checkpoints/last' is from before it", step,
                   what, v, t->o->dir);
}

/* Gradients become an update. They were scaled as if every target counted; *norm is of their mean
 * over those that do. */
static enum status update(struct trainer *t, double weight, double *norm, struct err *err)
{
    const struct train_config *c = t->config;
    real *grad = net_grads(t->net);
    double mean = (double)train_config_step_tokens(c) / weight;
    double squares;
    trainer_duo_mask(t);
    if (trainer_squares(t, &squares, err) != ST_OK)
        return err->code;
    *norm = sqrt(squares) * mean;
    if (!isfinite(*norm))
        return not_finite(t, "gradient's norm", *norm, err);
    struct optim_step s = { .t = t->state.step + 1,
                            .lr = schedule_lr(&t->schedule, t->state.step),
                            .scale = mean };
    if (c->clip > 0 && *norm > c->clip)
        s.scale *= c->clip / *norm;
    optim_apply(t->optim, net_params(t->net), grad, &s);
    trainer_duo_restore(t);
    return trainer_spread(t, err);
}

/* One optimiser step, or none where a stop came in between. *norm: of the gradient before clipping;
 * *stop: some rank was asked to. */
static enum status run_step(struct trainer *t, double *norm, bool *stop, struct err *err)
{
    const struct train_config *c = t->config;
    double sum[SUMS] = { [SUM_STOP] = stop_asked(t) };
    uint64_t start = clock_ns();
    *norm = 0;
    if (run_passes(t, sum, err) != ST_OK || t->reduce->sum(t->reduce->ctx, sum, SUMS, err) != ST_OK)
        return err->code;
    bool left = leaves_step(t);
    *stop = sum[SUM_STOP] > 0 || left;
    if (left)
        return ST_OK;
    if (!isfinite(sum[SUM_NLL]))
        return not_finite(t, "loss", sum[SUM_NLL], err);
    /* Nothing counts in a batch of prompts alone: the parameters stay. */
    if (sum[SUM_WEIGHT] > 0 && update(t, sum[SUM_WEIGHT], norm, err) != ST_OK)
        return err->code;
    t->loss = sum[SUM_WEIGHT] > 0 ? sum[SUM_NLL] / sum[SUM_WEIGHT] : 0;
    t->state.step++;
    t->state.seq += (uint64_t)c->batch * c->accumulate;
    t->state.tokens += train_config_step_tokens(c);
    t->state.val_loss = (double)NAN;
    uint64_t took = clock_ns() - start;
    t->line_ns += took;
    t->all_ns += took;
    t->line_tokens += train_config_step_tokens(c);
    t->all_tokens += train_config_step_tokens(c);
    return ST_OK;
}

/* ---- held-out loss ---- */

/* Sequences spread evenly over the held-out set, the same ones every time, dealt to the ranks in
 * turn. */
static uint64_t n_eval(const struct trainer *t)
{
    uint64_t want = (t->config->eval_tokens + t->config->ctx - 1) / t->config->ctx;
    return want && want < t->data.held.n ? want : t->data.held.n;
}

static enum status sum_eval(struct trainer *t, double *sum, struct err *err)
{
    const struct train_set *h = &t->data.held;
    struct data_order o = { .n_tok = t->config->ctx, .from = h->from, .n = h->n };
    uint64_t n = n_eval(t), i = t->reduce->rank;
    while (i < n) {
        uint32_t rows = 0;
        struct net_loss loss;
        for (; rows < t->n_row && i < n; rows++, i += t->reduce->n_rank) {
            size_t at = (size_t)rows * o.n_tok;
            uint64_t seq = (uint64_t)((unsigned __int128)i * h->n / n);
            if (data_seq(h->data, &o, seq, t->token + at, t->target + at, t->weight + at,
                         t->doc + at, err) != ST_OK)
                return err->code;
        }
        struct net_batch b = batch_of(t, rows, data_info(h->data).masked);
        trainer_duo_route(t, 0, rows, false);
        net_eval(t->net, &b, NULL, &loss);
        sum[SUM_NLL] += loss.nll;
        sum[SUM_WEIGHT] += loss.weight;
    }
    return ST_OK;
}

static enum status run_eval(struct trainer *t, struct err *err)
{
    double sum[SUMS] = { 0 };
    if (t->data.held.n == 0)
        return ST_OK;
    if (sum_eval(t, sum, err) != ST_OK || t->reduce->sum(t->reduce->ctx, sum, SUMS, err) != ST_OK)
        return err->code;
    double loss = sum[SUM_WEIGHT] > 0 ? sum[SUM_NLL] / sum[SUM_WEIGHT] : (double)NAN;
    t->state.val_loss = loss;
    if (!(loss >= t->state.best_loss) && isfinite(loss)) {
        t->state.best_loss = loss;
        t->state.best_step = t->state.step;
        t->best = true;
    }
    return ST_OK;
}

/* Tokens stand for n_byte bytes of text on average over the set. */
static double bits_per_byte(const struct trainer *t, double loss)
{
    if (t->data.held.n == 0)
        return (double)NAN;
    struct data_info in = data_info(t->data.held.data);
    return in.n_byte ? loss / log(2.0) * (double)in.n_token / (double)in.n_byte : (double)NAN;
}

/* ---- telling and keeping ---- */

static void spend(struct trainer *t)
{
    t->state.seconds = trainer_seconds(t);
    t->state.dollars = t->state.seconds / 3600 * t->config->price_per_hour;
}

static double rate(uint64_t tokens, uint64_t ns)
{
    return ns ? (double)tokens * 1e9 / (double)ns : 0;
}

static struct train_progress progress_of(struct trainer *t, double norm)
{
    uint64_t left = t->n_step - t->state.step, done = t->all_tokens;
    spend(t);
    return (struct train_progress){
        .step = t->state.step,
        .n_step = t->n_step,
        .tokens = t->state.tokens,
        .loss = t->loss,
        .val_loss = t->state.val_loss,
        .bits_per_byte = bits_per_byte(t, t->state.val_loss),
        .lr = schedule_lr(&t->schedule, t->state.step - 1),
        .grad_norm = norm,
        .tok_s = rate(t->line_tokens, t->line_ns),
        .seconds = t->state.seconds,
        .dollars = t->state.dollars,
        .eta_s = (double)left * (double)train_config_step_tokens(t->config) /
                 fmax(1e-9, rate(done, t->all_ns)),
        .rss = rss_now().anon,
    };
}

static int put_real(json_t *obj, const char *key, double v)
{
    return json_object_set_new(obj, key, json_real(v));
}

static json_t *line_of(const struct train_progress *p)
{
    json_t *o = json_pack("{s:I, s:I, s:f}", "step", (json_int_t)p->step, "tokens",
                          (json_int_t)p->tokens, "loss", p->loss);
    bool lost = !o;
    if (o && isfinite(p->val_loss))
        lost |= put_real(o, "val_loss", p->val_loss) != 0;
    if (o && isfinite(p->bits_per_byte))
        lost |= put_real(o, "bits_per_byte", p->bits_per_byte) != 0;
    lost = lost || put_real(o, "lr", p->lr) != 0 || put_real(o, "grad_norm", p->grad_norm) != 0 ||
           put_real(o, "tok_s", p->tok_s) != 0 || put_real(o, "seconds", p->seconds) != 0 ||
           put_real(o, "dollars", p->dollars) != 0 ||
           json_object_set_new(o, "rss", json_integer((json_int_t)p->rss)) != 0;
    if (!lost)
        return o;
    json_free(o);
    return NULL;
}

/* A step that a killed process logged and did not keep is computed again to the same bits: its line
 * is there. */
static enum status tell(struct trainer *t, double norm, bool line, struct err *err)
{
    struct train_progress p = progress_of(t, norm);
    if (t->o->watch.step)
        t->o->watch.step(t->o->watch.ctx, &p);
    if (!line)
        return ST_OK;
    t->line_ns = t->line_tokens = 0;
    if (!t->run || p.step <= t->logged)
        return ST_OK;
    t->logged = p.step;
    return run_dir_log(t->run, line_of(&p), err);
}

static enum status save(struct trainer *t, struct err *err)
{
    struct checkpoint_arrays a;
    spend(t);
    if (trainer_collect(t, &a, err) != ST_OK)
        return err->code;
    if (t->run &&
        (run_dir_log_sync(t->run, err) != ST_OK ||
         checkpoint_save(t->o->dir, &t->state, &a, t->best, t->config->keep_every, err) != ST_OK))
        return err->code;
    trainer_collected(t);
    t->best = false;
    return ST_OK;
}

/* A stop in the middle of a step: what the steps before it made is kept. */
static enum status leave(struct trainer *t, struct err *err)
{
    if (t->all_tokens == 0)
        return err_set(err, ST_CANCELLED, "stopped before step %" PRIu64, t->state.step + 1);
    return save(t, err);
}

static bool due(uint64_t step, uint64_t every)
{
    return every && step % every == 0;
}

/* One step and what follows it. *go: another one comes. */
static enum status advance(struct trainer *t, bool *go, struct err *err)
{
    const struct train_config *c = t->config;
    double norm = 0;
    bool stop = false;
    uint64_t step = t->state.step;
    if (run_step(t, &norm, &stop, err) != ST_OK)
        return err->code;
    if (t->state.step == step) {
        *go = false;
        return leave(t, err);
    }
    step = t->state.step;
    bool last = step >= t->n_step;
    bool end = last || stop || (c->stop_at && step >= c->stop_at);
    bool eval = last || due(step, c->eval_every);
    if (eval && run_eval(t, err) != ST_OK)
        return err->code;
    if (tell(t, norm, eval || end || due(step, c->log_every), err) != ST_OK)
        return err->code;
    *go = !end;
    return end || t->best || due(step, c->checkpoint_every) ? save(t, err) : ST_OK;
}

static enum status loop(struct trainer *t, struct err *err)
{
    const struct train_config *c = t->config;
    bool go = t->state.step < t->n_step && !(c->stop_at && t->state.step >= c->stop_at);
    if (stop_asked(t))
        return leave(t, err);
    while (go)
        if (advance(t, &go, err) != ST_OK)
            return err->code;
    return ST_OK;
}

enum status train_run(const struct train_opts *o, struct train_result *ret, struct err *err)
{
    struct trainer t;
    if (trainer_open(&t, o, err) == ST_OK && loop(&t, err) == ST_OK) {
        spend(&t);
        struct train_result r = { .step = t.state.step,
                                  .n_step = t.n_step,
                                  .tokens = t.state.tokens,
                                  .n_param = t.n_param,
                                  .stopped = t.state.step < t.n_step,
                                  .loss = t.loss,
                                  .val_loss = t.state.val_loss,
                                  .bits_per_byte = bits_per_byte(&t, t.state.val_loss),
                                  .tok_s = rate(t.all_tokens, t.all_ns),
                                  .seconds = t.state.seconds,
                                  .dollars = t.state.dollars,
                                  .planned = t.plan.total,
                                  .rss_peak = rss_now().anon_peak };
        if (r.stopped || trainer_export(&t, r.model, err) == ST_OK)
            *ret = r;
    }
    trainer_close(&t);
    return err->code;
}
