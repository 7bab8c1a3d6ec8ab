/* Spans of prompts in the scheduler: when a pass takes one, what it shows meanwhile, how it ends.
 */
#include "tests/unit/infer/scheduler_rig.h"

#include <criterion/criterion.h>

enum { CTX = 480, BATCH = 32, SPAN = 300, LONG = 400 };

/* Tokens of prompts in pass i. */
static uint32_t of_pass(const struct rig *g, uint32_t i)
{
    return g->fake.pass[i].n_prompt_tok;
}

Test(scheduler_span, a_prompt_alone_goes_a_span_at_a_time)
{
    struct rig g;
    struct seen s;
    int32_t prompt[LONG];
    struct gen_params p = greedy(5);
    p.ignore_eos = true;
    p.draft_max = 0;
    fill_prompt(prompt, LONG, 3);
    rig_open_spans(&g, 2, CTX, BATCH, SPAN);
    run_alone(&g, prompt, LONG, &p, &s);
    seen_clear(&s);
    scheduler_free(g.s);
    cr_expect_eq(of_pass(&g, 0), SPAN);
    cr_expect_eq(of_pass(&g, 1), LONG - SPAN);
    cr_expect_eq(g.fake.n_pass, 2 + 4);
    fake_clear(&g.fake);
}

Test(scheduler_span, prompts_share_a_span)
{
    enum { PART = LONG / 4 };
    struct rig g;
    struct seen s[3];
    int32_t prompt[3][PART];
    rig_open_spans(&g, 3, CTX, BATCH, SPAN);
    fake_gate(&g.fake, true);
    for (int i = 0; i < 3; i++) {
        struct gen_params p = greedy(i == 0 ? 0 : 3); /* the first is done with its prompt */
        p.ignore_eos = true;
        seen_init(&s[i]);
        fill_prompt(prompt[i], PART, 50 + (uint64_t)i);
        rig_send(&g, prompt[i], PART, &p, &s[i]);
        fake_await_pass(&g.fake); /* the others come while its pass runs */
    }
    fake_gate(&g.fake, false);
    for (int i = 0; i < 3; i++) {
        struct gen_params p = greedy(i == 0 ? 0 : 3);
        p.ignore_eos = true;
        await_done(&s[i]);
        expect_solo(&s[i], prompt[i], PART, &p, CTX, "shared");
        seen_clear(&s[i]);
    }
    scheduler_free(g.s);
    cr_expect_eq(of_pass(&g, 0), PART);
    cr_expect_eq(of_pass(&g, 1), 2 * PART);
    fake_clear(&g.fake);
}

/* A pass over a span takes long: who decodes waits for a batch, not for that. */
Test(scheduler_span, nobody_who_decodes_waits_for_a_span)
{
    struct rig g;
    struct seen a, b;
    int32_t prompt[LONG];
    struct gen_params p = greedy(60);
    p.ignore_eos = true;
    p.draft_max = 0;
    fill_prompt(prompt, LONG, 12);
    rig_open_spans(&g, 2, CTX, BATCH, SPAN);
    seen_init(&a);
    seen_init(&b);
    fake_gate(&g.fake, true);
    rig_send(&g, prompt + 100, 4, &p, &a);
    fake_await_pass(&g.fake);
    rig_send(&g, prompt, LONG, &p, &b);
    fake_gate(&g.fake, false);
    await_done(&a);
    await_done(&b);
    expect_solo(&a, prompt + 100, 4, &p, CTX, "reader");
    expect_solo(&b, prompt, LONG, &p, CTX, "newcomer");
    seen_clear(&a);
    seen_clear(&b);
    scheduler_free(g.s);
    for (uint32_t i = 0; i < g.fake.n_pass; i++)
        if (g.fake.pass[i].n_decode)
            cr_expect_leq(of_pass(&g, i), BATCH, "pass %u", i);
    fake_clear(&g.fake);
}

Test(scheduler_span, figures_move_while_a_span_is_under_way)
{
    struct rig g;
    struct seen s;
    int32_t prompt[LONG];
    struct gen_params p = greedy(2);
    struct engine_stats st;
    fill_prompt(prompt, LONG, 4);
    rig_open_spans(&g, 1, CTX, BATCH, SPAN);
    seen_init(&s);
    fake_gate(&g.fake, true);
    rig_send(&g, prompt, LONG, &p, &s);
    fake_await_pass(&g.fake); /* it has told of one half */
    scheduler_stats(g.s, &st);
    cr_expect_eq(st.slot[0].n_done, SPAN / 2);
    fake_gate(&g.fake, false);
    await_done(&s);
    seen_clear(&s);
    rig_close(&g);
}

Test(scheduler_span, a_span_that_is_cancelled_or_fails_ends_its_request_alone)
{
    struct rig g;
    struct seen s, after;
    int32_t prompt[LONG];
    struct gen_params p = greedy(4);
    p.ignore_eos = true;
    p.draft_max = 0;
    fill_prompt(prompt, LONG, 5);
    rig_open_spans(&g, 1, CTX, BATCH, SPAN);
    seen_init(&s);
    fake_gate(&g.fake, true);
    rig_send(&g, prompt, LONG, &p, &s);
    fake_await_pass(&g.fake);
    scheduler_cancel(g.s, s.id);
    await_done(&s); /* the gate is still closed */
    cr_expect_eq(s.finish, FINISH_CANCELLED);
    cr_expect_eq(s.n_token, 0u);
    fake_gate(&g.fake, false);
    seen_clear(&s);
    run_alone(&g, prompt, LONG, &p, &after);
    cr_expect_eq(after.cached, 0u, "nothing of the cancelled span counts");
    seen_clear(&after);
    prompt[0]++;                          /* another text: nothing of it is cached */
    g.fake.fail_pass = g.fake.n_pass + 1; /* the second span */
    seen_init(&s);
    rig_send(&g, prompt, LONG, &p, &s);
    await_done(&s);
    cr_expect_eq(s.finish, FINISH_ERROR);
    seen_clear(&s);
    run_alone(&g, prompt, LONG, &p, &after);
    cr_expect_eq(after.cached, SPAN, "the first span stands");
    seen_clear(&after);
    rig_close(&g);
}
