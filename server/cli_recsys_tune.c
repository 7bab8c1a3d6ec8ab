/* server/cli_recsys_tune.c - the search for settings that `strobe recsys fit` and `evaluate` make
 * when they are not told: shown while it runs, and told at its end. */
#include "server/cli_recsys.h"

#include <stdlib.h>
#include <unistd.h>

static void on_trial(void *ctx, uint32_t n, uint32_t of, const struct tune_trial *t)
{
    const struct cli *c = ctx;
    bool lines = c->verbose, tty = isatty(STDERR_FILENO);
    if (c->quiet || (!lines && !tty))
        return;
    fprintf(stderr, "%schoosing settings %u/%u  recall@20 %.4f  NDCG %.4f  %s%s%s",
            lines ? "" : "\r\033[K", n, of, t->recall20, t->ndcg, t->what,
            t->better ? ", kept" : "", lines ? "\n" : "");
}

static const struct tune_trial *winner(const struct tune_result *r)
{
    const struct tune_trial *t = &r->trial[0];
    for (uint32_t i = 0; i < r->n; i++)
        t = r->trial[i].better ? &r->trial[i] : t;
    return t;
}

static void tell(const struct cli *c, const struct fit_opts *o, const struct tune_result *r)
{
    char scales[256];
    const struct tune_trial *t = winner(r);
    tune_scales_text(o, scales);
    if (c->quiet)
        return;
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
    fprintf(
        stderr,
        "settings chosen on the last %llu of %llu training events: %s, --scales %s, a-theta %g, "
        "a-tau %g: recall@20 %.4f, NDCG %.4f there; %u trials in %.1f s (--tune 0: none)\n",
        (unsigned long long)r->judged, (unsigned long long)(r->judged + r->fitted),
        tune_measure_name(o), scales, o->a_theta, o->a_tau, t->recall20, t->ndcg, r->n, r->seconds);
}

enum status recsys_tune(const struct cli *c, const struct recsys_fit *f, const struct rs_events *ev,
                        struct fit_opts *o, struct err *err)
{
    if (!f->tune || f->scales || f->measure || !(o->terms & (RT_SELF | RT_SOCIAL)))
        return ST_OK;
    if (f->tuned) {
        memcpy(o->scale, f->tuned->scale, sizeof o->scale);
        o->n_scale = f->tuned->n_scale;
        o->measure = f->tuned->measure;
        o->a_theta = f->tuned->a_theta;
        o->a_beta = f->tuned->a_beta;
        o->a_tau = f->tuned->a_tau;
        return ST_OK;
    }
    struct tune_result *r = f->trials ? f->trials : malloc(sizeof *r);
    struct tune_opts t = tune_defaults();
    if (!r)
        return err_set(err, ST_NOMEM, "choosing settings");
    t.kind = o->clock == CLOCK_USER ? SPLIT_USER : SPLIT_GLOBAL;
    t.trials = (uint32_t)f->tune;
    t.progress = on_trial;
    t.ctx = (void *)c;
    t.stop = f->stop;
    if (fit_tune(ev, &t, o, r, err) == ST_OK && r->n)
        tell(c, o, r);
    if (!f->trials)
        free(r);
    return err->code;
}
