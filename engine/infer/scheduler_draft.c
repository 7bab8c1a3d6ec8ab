/* engine/infer/scheduler_draft.c - what each decoding session guesses for the coming pass, how many
 * and from where. See scheduler.h, draft.h, drafter.h.
 *
 *   decide    per session: source and number, from times and luck   (draft_choose)
 *   make      step by step, all sessions together                   (drafter_step)
 *   judge     after the pass: what was right                        (draft_luck_add)
 *
 * A guess is picked from the drafter's row as the verifying pass will pick from its own: same
 * sampler, same request, same position, so the same random number. A drafter whose distribution is
 * near is then mostly right also where the text is drawn. */
#include "engine/base/clock.h"
#include "engine/infer/scheduler_internal.h"

#include <string.h>

/* A second model mostly agrees; what followed the last two words does half of the time. */
static const double luck_prior[DRAFT_SOURCES] = {
    [DRAFT_LOOKUP] = 0.5, [DRAFT_MODEL] = 0.8, [DRAFT_SELF] = 0.8
};
#define MODEL_STEP_SHARE 0.1 /* of a pass, until measured: low, so that it is measured */

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

void scheduler_draft_init(struct scheduler *s, double token_share)
{
    draft_costs_init(&s->costs, token_share);
    s->costs.step_share[DRAFT_MODEL] = s->costs.step_share[DRAFT_SELF] = MODEL_STEP_SHARE;
    for (int i = 0; i < DRAFT_SOURCES; i++)
        draft_luck_init(&s->luck[i], luck_prior[i]);
}

void scheduler_draft_admit(struct scheduler *s, struct session *ses)
{
    ses->n_draft = ses->n_want = 0;
    for (int i = 0; i < DRAFT_SOURCES; i++) /* begins with what other sequences taught */
        draft_luck_init(&ses->luck[i], draft_luck_mean(&s->luck[i]));
}

/* ---- decide ---- */

/* What else is in the pass. */
struct crowd {
    uint32_t spare; /* tokens and rows that guesses may still take */
    uint32_t others;
    double yield;
};

/* Room in the context, in the request, in the pass. */
static uint32_t room_for(const struct scheduler *s, const struct session *ses,
                         const struct crowd *c)
{
    const struct gen_params *p = &ses->req->p;
    bool pays = s->in.streaming || s->in.drafter;
    uint32_t max = p->draft_max == GEN_DRAFT_AUTO ? (pays ? DRAFT_MAX : 0) : p->draft_max;
    uint32_t left = p->max_tokens - ses->req->n_generated; /* at least 1: else it had ended */
    max = min_u32(min_u32(max, DRAFT_MAX), c->spare);
    max = min_u32(max, s->in.n_ctx - min_u32(ses->n_token, s->in.n_ctx));
    if (s->in.dear_tok)
        max = min_u32(max, s->in.dear_tok - min_u32(s->in.dear_tok, c->others + 2));
    return s->in.reuse ? 0 : min_u32(max, left - 1);
}

static struct draft_choice choose(const struct scheduler *s, const struct session *ses,
                                  const struct crowd *c, enum draft_source source, uint32_t max)
{
    return draft_choose(&(struct draft_ask){ .costs = &s->costs,
                                             .luck = &ses->luck[source],
                                             .source = source,
                                             .others = c->others,
                                             .yield = c->yield,
                                             .max = max });
}

/* The text itself is asked first, since that is free, unless it is known to do worse. */
static void decide(struct scheduler *s, struct session *ses, struct crowd *c)
{
    uint32_t max = room_for(s, ses, c);
    struct draft_choice text = choose(s, ses, c, DRAFT_LOOKUP, max), own = { 0 };
    enum draft_source own_source = DRAFT_LOOKUP;
    ses->n_draft = ses->n_want = 0;
    ses->source = DRAFT_LOOKUP;
    if (s->in.drafter && max) {
        uint32_t ctx = drafter_ctx(s->in.drafter);
        own_source = drafter_source(s->in.drafter);
        own = choose(s, ses, c, own_source, min_u32(max, ctx - min_u32(ctx, ses->n_token)));
    }
    bool worse = own.rate > text.rate && draft_luck_known(&ses->luck[DRAFT_LOOKUP]);
    if (text.n && !worse)
        ses->n_draft = draft_lookup(ses->token, ses->n_token, text.n, ses->draft);
    memcpy(ses->token + ses->n_token, ses->draft, ses->n_draft * sizeof *ses->draft);
    if (!ses->n_draft && own.n) {
        ses->source = own_source;
        ses->n_want = own.n;
    }
    uint32_t n = ses->n_draft + ses->n_want;
    c->spare -= n;
    c->others += n;
    c->yield += n ? (ses->n_want ? own.tokens : text.tokens) - 1 : 0;
}

/* ---- make ---- */

static void add_guess(struct scheduler *s, struct session *ses, const float *row)
{
    uint32_t at = ses->n_token + ses->n_draft;
    int32_t token = row ? scheduler_pick(s, ses, row, at) : -1;
    if (token < 0 || scheduler_ends(s, ses, token)) { /* behind an end nothing follows */
        ses->n_want = ses->n_draft;
        return;
    }
    ses->draft[ses->n_draft++] = ses->token[at] = token;
}

/* Sessions that want more; returns how many. */
static size_t list_wanting(struct scheduler *s)
{
    size_t n = 0;
    for (uint32_t i = 0; i < s->in.n_slot; i++) {
        struct session *ses = &s->session[i];
        if (!ses->req || ses->n_draft >= ses->n_want)
            continue;
        s->drafting[n] = ses;
        s->draft_seq[n++] = (struct drafter_seq){ .slot = ses->slot,
                                                  .token = ses->token,
                                                  .n_token = ses->n_token + ses->n_draft,
                                                  .n_kept = ses->n_kept,
                                                  .cancel = &ses->req->cancel };
        if (ses->n_draft == 0)
            drafter_begin(s->in.drafter, &s->draft_seq[n - 1]);
    }
    return n;
}

/* A guess for each; returns how many tokens the pass had. Passes of the model itself go into the
 * totals of its layers, but into no request's trace. */
static uint32_t step(struct scheduler *s, size_t n)
{
    bool self = drafter_source(s->in.drafter) == DRAFT_SELF;
    if (self)
        trace_pass_begin(s->in.trace, clock_ns());
    uint32_t n_tok = drafter_step(s->in.drafter, s->draft_seq, n);
    if (self)
        trace_pass_end(s->in.trace, clock_ns(), n_tok);
    for (size_t i = 0; i < n; i++)
        add_guess(s, s->drafting[i], s->draft_seq[i].row);
    return n_tok;
}

static void make(struct scheduler *s)
{
    uint64_t start = clock_ns();
    bool usual = true;
    uint32_t n_step = 0;
    size_t n;
    for (; (n = list_wanting(s)) > 0; n_step++) {
        uint32_t n_tok = step(s, n);
        usual &= n_tok >= 1 && n_tok <= 2 * n; /* else it read in a prompt, or failed */
    }
    uint64_t took = clock_ns() - start;
    s->own.draft_ns += took;
    s->own.draft_passes += n_step;
    if (usual)
        draft_costs_add_steps(&s->costs, drafter_source(s->in.drafter), n_step,
                              (double)took * 1e-9);
}

void scheduler_draft(struct scheduler *s, uint32_t spare)
{
    struct crowd c = { .spare = spare };
    bool any = false;
    for (uint32_t i = 0; i < s->in.n_slot; i++)
        c.others += scheduler_decodes(&s->session[i]);
    if (c.others == 0)
        return;
    c.yield = --c.others; /* each but the one that is decided on gets a token at least */
    for (uint32_t i = 0; i < s->in.n_slot; i++) {
        struct session *ses = &s->session[i];
        if (!scheduler_decodes(ses))
            continue;
        decide(s, ses, &c);
        any |= ses->n_want > 0;
    }
    if (any)
        make(s);
}

/* ---- judge ---- */

void scheduler_draft_judge(struct scheduler *s, struct session *ses, uint32_t drafted,
                           uint32_t right)
{
    s->own.drafted += drafted;
    s->own.draft_accepted += right;
    s->own.drafted_by[ses->source] += drafted;
    s->own.accepted_by[ses->source] += right;
    for (int i = 0; i < DRAFT_SOURCES; i++) {
        bool used = i == (int)ses->source;
        draft_luck_add(&ses->luck[i], used ? drafted : 0, used ? right : 0);
        draft_luck_add(&s->luck[i], used ? drafted : 0, used ? right : 0);
    }
}
