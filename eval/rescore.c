/* eval/rescore.c - scores the answers of a run anew, without asking anybody. See runner.h. */
#include "eval/runner.h"
#include "eval/score.h"

#include <stdlib.h>

enum { RESCORE_BATCH = 200 };

struct rescoring {
    enum extract_profile profile;
    struct run_sample row[RESCORE_BATCH];
    size_t n;
    int64_t after, changed;
    struct err err;
};

static bool rescore_row(void *ctx, const struct run_sample *r)
{
    struct rescoring *s = ctx;
    struct run_sample *to = &s->row[s->n++];
    bool was = r->correct[s->profile];
    *to = *r;
    s->after = r->ord;
    score_sample(to, s->profile, &s->err);
    s->changed += to->correct[s->profile] != was;
    /* Texts are borrowed for this call only. */
    to->question = to->response = to->reasoning = to->info = (struct str){ "", 0 };
    return s->err.code == ST_OK;
}

enum status runner_rescore(struct run_store *store, const char *run, enum extract_profile profile,
                           int64_t *scored, int64_t *changed, struct err *err)
{
    struct rescoring *s = calloc(1, sizeof *s);
    struct sample_query q = SAMPLE_QUERY_ALL;
    if (!s)
        return err_set(err, ST_NOMEM, "scores");
    s->profile = profile;
    s->after = -1;
    q.by_ord = true;
    q.limit = RESCORE_BATCH;
    q.state = SAMPLE_DONE;
    *scored = 0;
    do {
        s->n = 0;
        q.after = s->after;
        if (run_store_each(store, run, &q, rescore_row, s, err) != ST_OK)
            break;
        if (s->err.code != ST_OK)
            *err = s->err;
        else if (s->n)
            run_store_score(store, run, s->row, s->n, err);
        *scored += (int64_t)s->n;
    } while (err->code == ST_OK && s->n == RESCORE_BATCH);
    *changed = s->changed;
    free(s);
    return err->code;
}
