/* tests/unit/infer/test_scheduler_draft.c - guesses by a second model and by the model itself, and
 * passes that read no neurons. Whatever is guessed, every request gets what it gets alone. */
#include "engine/base/rng.h"
#include "tests/unit/infer/scheduler_rig.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

enum { CTX = 150, LEN = 20, REQ_MAX = 8 };

struct outcome {
    struct engine_stats st;
    uint32_t n_token, n_pass, most_tok;
};

/* Passes of the model that were no guesses. */
static uint32_t verifying(const struct fake *f, uint32_t *most_tok)
{
    uint32_t n = 0;
    *most_tok = 0;
    for (uint32_t i = 0; i < f->n_pass; i++) {
        const struct fake_pass *p = &f->pass[i];
        n += p->reads == WEIGHTS_READ;
        if (p->n_logits > *most_tok)
            *most_tok = p->n_logits;
    }
    return n;
}

static struct outcome run(const struct rig_draft *d, float temperature, uint32_t n_slot,
                          uint32_t n_req, bool end_tokens)
{
    struct rig g;
    struct seen seen[REQ_MAX];
    struct gen_params p[REQ_MAX];
    int32_t prompt[REQ_MAX][LEN];
    struct outcome o = { 0 };
    rig_open_drafting(&g, d, n_slot, CTX, 16);
    for (uint32_t i = 0; i < n_req; i++) {
        seen_init(&seen[i]);
        gen_params_init(&p[i]);
        p[i].temperature = temperature;
        p[i].seed = i;
        p[i].ignore_eos = !end_tokens;
        p[i].max_tokens = i == 0 ? UINT32_MAX : 20 + 17 * i; /* the first fills its context */
        p[i].repeat_penalty = i % 3 == 1 ? 1.1f : 1;
        fill_prompt(prompt[i], LEN, 900 + i % 3);
        rig_send(&g, prompt[i], LEN, &p[i], &seen[i]);
    }
    for (uint32_t i = 0; i < n_req; i++) {
        await_done(&seen[i]);
        expect_solo(&seen[i], prompt[i], LEN, &p[i], CTX, "with guesses");
        o.n_token += seen[i].n_token;
        seen_clear(&seen[i]);
    }
    scheduler_stats(g.s, &o.st);
    o.n_pass = verifying(&g.fake, &o.most_tok);
    rig_close(&g);
    return o;
}

static void expect_counts(const struct engine_stats *st, enum draft_source source)
{
    uint64_t drafted = 0, accepted = 0;
    for (int i = 0; i < DRAFT_SOURCES; i++) {
        drafted += st->drafted_by[i];
        accepted += st->accepted_by[i];
    }
    cr_expect_eq(drafted, st->drafted);
    cr_expect_eq(accepted, st->draft_accepted);
    cr_expect_gt(st->drafted_by[source], 0u);
    cr_expect_gt(st->draft_ns, 0u);
    cr_expect_geq(st->draft_passes, 1u);
    cr_expect_eq(st->errors, 0u);
}

/* Drawn texts too: the drafter draws with the same number, so equal rows give equal tokens. */
Test(scheduler_draft, a_perfect_drafter_is_always_right_and_saves_passes)
{
    for (int source = DRAFT_MODEL; source <= DRAFT_SELF; source++)
        for (int hot = 0; hot < 2; hot++)
            for (uint32_t n_slot = 1; n_slot <= 3; n_slot += 2) {
                const struct rig_draft d = { .source = (enum draft_source)source,
                                             .n_ctx = CTX,
                                             .pass_us = 2000 };
                struct outcome o = run(&d, hot ? 0.7f : 0, n_slot, 2 * n_slot, hot);
                expect_counts(&o.st, d.source);
                cr_expect_eq(o.st.accepted_by[source], o.st.drafted_by[source],
                             "source %d, %u slots: %lu of %lu", source, n_slot,
                             (unsigned long)o.st.accepted_by[source],
                             (unsigned long)o.st.drafted_by[source]);
                /* A guess takes next to nothing, a pass two milliseconds. */
                if (n_slot == 1)
                    cr_expect_lt(o.n_pass, o.n_token * 3 / 4, "%u passes for %u tokens", o.n_pass,
                                 o.n_token);
            }
}

Test(scheduler_draft, wrong_guesses_are_taken_back)
{
    for (int source = DRAFT_MODEL; source <= DRAFT_SELF; source++) {
        uint64_t drafted = 0, accepted = 0;
        for (int hot = 0; hot < 2; hot++)
            for (uint32_t n_slot = 1; n_slot <= 3; n_slot += 2) {
                const struct rig_draft d = { .source = (enum draft_source)source,
                                             .n_ctx = CTX,
                                             .wrong_one_in = 3,
                                             .pass_us = 1000,
                                             .streaming = true };
                struct outcome o = run(&d, hot ? 0.7f : 0, n_slot, REQ_MAX, hot);
                expect_counts(&o.st, d.source);
                drafted += o.st.drafted_by[source];
                accepted += o.st.accepted_by[source];
            }
        cr_expect(accepted > 0 && accepted < drafted, "%lu of %lu", (unsigned long)accepted,
                  (unsigned long)drafted);
    }
}

/* Texts that loop, where the text itself is asked first. */
Test(scheduler_draft, guesses_from_the_text_and_from_a_model_go_together)
{
    const struct rig_draft d = {
        .source = DRAFT_MODEL, .n_ctx = CTX, .wrong_one_in = 4, .pass_us = 300, .streaming = true
    };
    fake_order = 2;
    struct outcome o = run(&d, 0, 3, REQ_MAX, false);
    fake_order = 0;
    expect_counts(&o.st, DRAFT_LOOKUP);
    expect_counts(&o.st, DRAFT_MODEL);
}

Test(scheduler_draft, beyond_the_draft_models_context_nothing_is_guessed)
{
    const struct rig_draft d = { .source = DRAFT_MODEL, .n_ctx = 60, .pass_us = 300 };
    struct outcome o = run(&d, 0, 1, 2, false);
    expect_counts(&o.st, DRAFT_MODEL);
    cr_expect_lt(o.st.drafted, 2 * 60u);
}

Test(scheduler_draft, no_pass_reaches_the_number_of_tokens_that_is_dear)
{
    for (uint32_t dear = 2; dear <= 8; dear += 3) {
        const struct rig_draft d = {
            .source = DRAFT_MODEL, .n_ctx = CTX, .pass_us = 300, .dear_tok = dear
        };
        struct outcome o = run(&d, 0, 1, 1, false);
        cr_expect_lt(o.most_tok, dear);
        cr_expect(dear > 2 ? o.st.drafted > 0 : o.st.drafted == 0, "%lu of %u",
                  (unsigned long)o.st.drafted, dear);
    }
}

Test(scheduler_draft, a_long_prompt_reaches_the_draft_model_in_parts)
{
    struct rig g;
    struct seen s;
    int32_t prompt[120];
    const struct rig_draft d = { .source = DRAFT_MODEL, .n_ctx = CTX, .pass_us = 300 };
    struct gen_params p = greedy(25);
    p.ignore_eos = true;
    fill_prompt(prompt, 120, 44);
    rig_open_drafting(&g, &d, 1, CTX, 16);
    run_alone(&g, prompt, 120, &p, &s);
    struct engine_stats st;
    scheduler_stats(g.s, &st);
    expect_counts(&st, DRAFT_MODEL);
    for (uint32_t i = 0; i < g.small.n_pass; i++)
        cr_expect_leq(g.small.pass[i].n_prompt_tok, 17u, "a batch and one");
    uint32_t before = g.small.n_pass;
    seen_clear(&s);
    run_alone(&g, prompt, 120, &p, &s); /* its rows are still there */
    cr_assert_gt(g.small.n_pass, before);
    cr_expect_eq(g.small.pass[before].n_prompt_tok, 0u, "one token, the last");
    seen_clear(&s);
    rig_close(&g);
}

Test(scheduler_draft, a_draft_model_that_fails_costs_guesses_and_nothing_else)
{
    struct rig g;
    struct seen s;
    int32_t prompt[LEN];
    struct gen_params p = greedy(40);
    p.ignore_eos = true;
    for (uint32_t fail = 0; fail < 8; fail++) {
        const struct rig_draft d = { .source = DRAFT_MODEL, .n_ctx = CTX, .pass_us = 300 };
        struct engine_stats st;
        fill_prompt(prompt, LEN, 45);
        rig_open_drafting(&g, &d, 1, CTX, 16);
        g.small.fail_pass = fail;
        run_alone(&g, prompt, LEN, &p, &s);
        scheduler_stats(g.s, &st);
        expect_counts(&st, DRAFT_MODEL);
        cr_expect_eq(st.accepted_by[DRAFT_MODEL], st.drafted_by[DRAFT_MODEL], "pass %u", fail);
        seen_clear(&s);
        rig_close(&g);
    }
}

Test(scheduler_draft, cancelling_between_guesses_leaves_sound_slots)
{
    for (int source = DRAFT_MODEL; source <= DRAFT_SELF; source++)
        for (uint32_t after = 1; after < 12; after += 3) {
            struct rig g;
            struct seen s, again;
            int32_t prompt[LEN];
            const struct rig_draft d = {
                .source = (enum draft_source)source, .n_ctx = CTX, .wrong_one_in = 5, .pass_us = 300
            };
            struct gen_params p = greedy(60);
            p.ignore_eos = true;
            fill_prompt(prompt, LEN, 46);
            rig_open_drafting(&g, &d, 1, CTX, 16);
            seen_init(&s);
            s.cancel_in = g.s;
            s.cancel_after = after;
            pthread_mutex_lock(&s.lock); /* the id is written before the callback may read it */
            rig_send(&g, prompt, LEN, &p, &s);
            pthread_mutex_unlock(&s.lock);
            await_done(&s);
            cr_expect_eq(s.n_token, after);
            run_alone(&g, prompt, LEN, &p, &again);
            seen_clear(&s);
            seen_clear(&again);
            rig_close(&g);
        }
}

Test(scheduler_draft, a_request_that_wants_no_guesses_gets_none)
{
    struct rig g;
    struct seen s;
    int32_t prompt[LEN];
    const struct rig_draft d = { .source = DRAFT_MODEL, .n_ctx = CTX, .streaming = true };
    struct gen_params p = greedy(40);
    p.ignore_eos = true;
    p.draft_max = 0;
    fill_prompt(prompt, LEN, 47);
    rig_open_drafting(&g, &d, 1, CTX, 16);
    run_alone(&g, prompt, LEN, &p, &s);
    struct engine_stats st;
    scheduler_stats(g.s, &st);
    cr_expect_eq(st.drafted + st.draft_passes + g.small.n_pass, 0u);
    seen_clear(&s);
    rig_close(&g);
}

/* ---- drafter alone ---- */

Test(scheduler_draft, a_narrower_vocabulary_leaves_the_rest_impossible_and_unknown)
{
    enum { WIDE = FAKE_VOCAB + 6 };
    struct fake f;
    struct drafter *d = NULL;
    struct err err = ERR_INIT;
    atomic_bool cancel = false;
    float want[FAKE_VOCAB];
    int32_t token[3] = { 5, 6, 7 };
    fake_init(&f, 1, 30, 8);
    const struct drafter_in in = { .source = DRAFT_MODEL,
                                   .forward = (struct forward *)&f,
                                   .n_slot = 1,
                                   .n_batch = 8,
                                   .n_ctx = 30,
                                   .n_vocab = WIDE,
                                   .width = FAKE_VOCAB };
    cr_assert_eq(drafter_create(&in, &d, &err), ST_OK, "%s", err.msg);
    struct drafter_seq q = { .token = token, .n_token = 3, .cancel = &cancel };
    drafter_begin(d, &q);
    cr_assert_eq(drafter_step(d, &q, 1), 3u);
    cr_assert_not_null(q.row);
    fake_row(token, 3, want);
    for (int i = 0; i < WIDE; i++)
        cr_expect(i < FAKE_VOCAB ? q.row[i] == want[i] : q.row[i] == -INFINITY, "%d", i);
    token[2] = FAKE_VOCAB + 1; /* only the large model has it */
    drafter_begin(d, &q);
    cr_expect_eq(drafter_step(d, &q, 1), 0u);
    cr_expect_null(q.row);
    drafter_free(d);
    drafter_free(NULL);
    fake_clear(&f);
}

/* ---- passes that read nothing ---- */

static void reuse_pattern(uint32_t reuse)
{
    struct fake f;
    struct scheduler *s = NULL;
    struct err err = ERR_INIT;
    struct seen seen;
    int32_t prompt[LEN];
    uint64_t id;
    struct gen_params p = greedy(13);
    p.ignore_eos = true;
    p.draft_max = 4; /* is not heeded: a verified guess would be a pass that reads */
    fill_prompt(prompt, LEN, 48);
    fake_reads = WEIGHTS_READ;
    fake_init(&f, 1, CTX, 8);
    struct scheduler_in in = fake_scheduler_in(&f, 8, 4);
    in.reuse = reuse;
    in.streaming = true;
    cr_assert_eq(scheduler_create(&in, &s, &err), ST_OK);
    seen_init(&seen);
    cr_assert_eq(scheduler_submit(s, prompt, LEN, &p, on_event, &seen, &id, &err), ST_OK);
    await_done(&seen);
    struct engine_stats st;
    scheduler_stats(s, &st);
    scheduler_free(s);
    cr_assert_eq(f.n_pass, 3u + 12u); /* the prompt in parts of 8, and all tokens but the first */
    uint32_t since = 0, n_reuse = 0;
    for (uint32_t i = 0; i < f.n_pass; i++) {
        bool want = i >= 3 && since < reuse;
        cr_expect_eq(f.pass[i].reads, want ? WEIGHTS_REUSE : WEIGHTS_READ, "%u, pass %u", reuse, i);
        since = want ? since + 1 : 0;
        n_reuse += want;
    }
    cr_expect_eq(st.reuse_passes, n_reuse);
    cr_expect_eq(st.drafted, 0u);
    seen_clear(&seen);
    fake_clear(&f);
}

Test(scheduler_draft, so_many_passes_after_one_that_reads_do_not)
{
    for (uint32_t reuse = 0; reuse <= 5; reuse++)
        reuse_pattern(reuse);
}
