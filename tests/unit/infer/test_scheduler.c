/* tests/unit/infer/test_scheduler.c - the scheduler over a model that is only arithmetic
 * (fake_lower.h), against an oracle that decodes one request alone. */
#include "engine/base/rng.h"
#include "tests/unit/infer/scheduler_rig.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

Test(scheduler, any_mix_gives_each_request_what_it_gets_alone)
{
    enum { N = 8, ROUNDS = 25, CTX = 90 };
    struct rig g;
    struct rng rng = { 17 };
    rig_open(&g, 3, CTX, 16);
    for (int round = 0; round < ROUNDS; round++) {
        int32_t prompt[N][CTX];
        uint32_t n[N];
        struct gen_params p[N];
        struct seen *seen = calloc(N, sizeof *seen);
        for (int i = 0; i < N; i++) {
            n[i] = 1 + (uint32_t)rng_below(&rng, CTX);
            fill_prompt(prompt[i], n[i], rng_below(&rng, 3)); /* beginnings are often shared */
            for (uint32_t k = 50; k < n[i]; k++)
                prompt[i][k] = 1 + (int32_t)rng_below(&rng, FAKE_VOCAB - 1);
            gen_params_init(&p[i]);
            p[i].temperature = (float)rng_below(&rng, 3) * 0.7f;
            p[i].seed = rng_u64(&rng);
            p[i].draft_max = (uint32_t)rng_below(&rng, 17);
            p[i].max_tokens = (uint32_t)rng_below(&rng, 40);
            p[i].ignore_eos = rng_below(&rng, 2);
            p[i].repeat_penalty = rng_below(&rng, 2) ? 1.3f : 1;
            p[i].presence_penalty = rng_below(&rng, 2) ? 0.5f : 0;
            p[i].cache_prompt = rng_below(&rng, 4) > 0;
            p[i].prompt_logprobs = rng_below(&rng, 4) == 0;
            p[i].logprobs = (int32_t)rng_below(&rng, 4) - 1;
            seen_init(&seen[i]);
            rig_send(&g, prompt[i], n[i], &p[i], &seen[i]);
        }
        for (int i = 0; i < N; i++) {
            await_done(&seen[i]);
            expect_solo(&seen[i], prompt[i], n[i], &p[i], CTX, "mixed");
            cr_assert_eq(seen[i].n_prompt, p[i].prompt_logprobs ? n[i] : 0);
            seen_clear(&seen[i]);
        }
        free(seen);
    }
    struct engine_stats st;
    scheduler_stats(g.s, &st);
    cr_expect_eq(st.requests, N * ROUNDS);
    cr_expect_gt(st.prompt_tokens_cached, 0);
    cr_expect_eq(st.errors + st.cancelled + st.rejected, 0);
    cr_expect_eq(st.bytes_read, 7);
    cr_expect_gt(st.ram_peak, 0);
    rig_close(&g);
}

/* Texts that loop, so that guesses come true; one slot and several, greedy and drawn. */
static void guess(uint32_t order, float temperature, uint32_t n_slot, uint32_t n_req)
{
    enum { REQ_MAX = 8, N_CTX = 150 };
    struct rig g;
    struct seen seen[REQ_MAX];
    struct gen_params p[REQ_MAX];
    int32_t prompt[REQ_MAX][20];
    uint32_t n_token = 0;
    struct engine_stats st;
    fake_order = order;
    rig_open_with(&g, n_slot, N_CTX, 16, 64, true);
    for (uint32_t i = 0; i < n_req; i++) {
        seen_init(&seen[i]);
        gen_params_init(&p[i]);
        p[i].temperature = temperature;
        p[i].seed = i;
        p[i].ignore_eos = true;
        p[i].max_tokens = i == 0 ? UINT32_MAX : 20 + 17 * i; /* the first fills its context */
        p[i].repeat_penalty = i % 3 == 1 ? 1.1f : 1;
        fill_prompt(prompt[i], 20, 900 + i);
        rig_send(&g, prompt[i], 20, &p[i], &seen[i]);
    }
    for (uint32_t i = 0; i < n_req; i++) {
        await_done(&seen[i]);
        expect_solo(&seen[i], prompt[i], 20, &p[i], N_CTX, "with guesses");
        n_token += seen[i].n_token;
    }
    scheduler_stats(g.s, &st);
    cr_expect_leq(st.draft_accepted, st.drafted);
    if (order == 1 && temperature == 0 && n_slot == 1)
        cr_expect_lt(g.fake.n_pass, n_token * 9 / 10, "%u passes for %u tokens that loop",
                     g.fake.n_pass, n_token);
    for (uint32_t i = 0; i < n_req; i++)
        seen_clear(&seen[i]);
    rig_close(&g);
    fake_order = 0;
}

Test(scheduler, guessed_tokens_save_passes_and_change_nothing)
{
    for (uint32_t order = 0; order <= 2; order++)
        for (int hot = 0; hot < 2; hot++) {
            guess(order, hot ? 0.6f : 0, 1, 3);
            guess(order, hot ? 0.6f : 0, 3, 8);
        }
}

Test(scheduler, a_longer_prompt_reuses_what_the_slot_keeps)
{
    struct rig g;
    struct seen a, b, c;
    int32_t prompt[60];
    fill_prompt(prompt, 60, 5);
    struct gen_params p = greedy(4);
    rig_open(&g, 2, 100, 16);
    run_alone(&g, prompt, 40, &p, &a);
    run_alone(&g, prompt, 60, &p, &b);
    cr_expect_eq(a.cached, 0);
    cr_expect_geq(b.cached, 40);
    run_alone(&g, prompt, 60, &p, &c); /* the same again: all but the last token */
    cr_expect_eq(c.cached, 59);
    p.cache_prompt = false;
    seen_clear(&c);
    run_alone(&g, prompt, 60, &p, &c);
    cr_expect_eq(c.cached, 0);
    seen_clear(&a);
    seen_clear(&b);
    seen_clear(&c);
    rig_close(&g);
}

Test(scheduler, a_prefix_is_copied_from_a_slot_that_is_busy)
{
    struct rig g;
    struct seen a, b;
    int32_t prompt[60];
    fill_prompt(prompt, 60, 6);
    struct gen_params p = greedy(30);
    p.ignore_eos = true;
    rig_open(&g, 2, 100, 64);
    seen_init(&a);
    rig_send(&g, prompt, 50, &p, &a);
    seen_await(&a, &a.n_token, 1);
    seen_init(&b);
    prompt[50] = 1 + prompt[50] % 9;
    rig_send(&g, prompt, 60, &p, &b);
    await_done(&a);
    await_done(&b);
    expect_solo(&a, prompt, 50, &p, 100, "first");
    expect_solo(&b, prompt, 60, &p, 100, "second");
    cr_expect_geq(b.cached, 50);
    seen_clear(&a);
    seen_clear(&b);
    rig_close(&g);
}

Test(scheduler, a_short_common_beginning_does_not_cost_another_slot_its_cache)
{
    struct rig g;
    struct seen s;
    int32_t one[60], two[60];
    fill_prompt(one, 60, 1);
    fill_prompt(two, 60, 2);
    memcpy(two, one, 8 * sizeof *two);
    struct gen_params p = greedy(2);
    rig_open(&g, 2, 100, 64);
    run_alone(&g, one, 60, &p, &s);
    seen_clear(&s);
    run_alone(&g, two, 60, &p, &s);
    seen_clear(&s);
    run_alone(&g, one, 60, &p, &s);
    cr_expect_eq(s.cached, 59);
    seen_clear(&s);
    rig_close(&g);
}

Test(scheduler, a_full_queue_refuses_and_a_draining_one_too)
{
    struct rig g;
    struct seen s[2], extra;
    struct err err = ERR_INIT;
    int32_t prompt[] = { 1, 2, 3 };
    struct gen_params p = greedy(3);
    uint64_t id = 0;
    rig_open_with(&g, 1, 20, 8, 1, false);
    fake_gate(&g.fake, true);
    seen_init(&s[0]);
    seen_init(&s[1]);
    seen_init(&extra);
    rig_send(&g, prompt, 3, &p, &s[0]);
    fake_await_pass(&g.fake); /* the slot is taken now */
    cr_expect(scheduler_has_room(g.s));
    rig_send(&g, prompt, 3, &p, &s[1]);
    cr_expect_not(scheduler_has_room(g.s));
    cr_expect_eq(scheduler_submit(g.s, prompt, 3, &p, on_event, &extra, &id, &err), ST_BUSY);
    struct engine_stats st;
    scheduler_stats(g.s, &st);
    cr_expect(st.rejected == 1 && st.queued == 1, "%lu rejected, %u queued",
              (unsigned long)st.rejected, st.queued);
    cr_expect_not(scheduler_idle(g.s));
    scheduler_drain(g.s);
    err_clear(&err);
    cr_expect_eq(scheduler_submit(g.s, prompt, 3, &p, on_event, &extra, &id, &err), ST_CLOSED);
    fake_gate(&g.fake, false);
    for (int i = 0; i < 2; i++) {
        await_done(&s[i]);
        expect_solo(&s[i], prompt, 3, &p, 20, "drained");
        seen_clear(&s[i]);
    }
    rig_close(&g);
    cr_expect_eq(extra.n_started + extra.n_done, 0, "no event after a refusal");
    seen_clear(&extra);
}

Test(scheduler, impossible_prompts_are_refused_with_their_numbers)
{
    struct rig g;
    struct err err = ERR_INIT;
    struct gen_params p = greedy(1);
    int32_t prompt[21] = { 0 };
    uint64_t id;
    rig_open(&g, 1, 20, 8);
    cr_expect_eq(scheduler_submit(g.s, prompt, 21, &p, on_event, NULL, &id, &err), ST_ARG);
    cr_expect(strstr(err.msg, "21") && strstr(err.msg, "20"), "%s", err.msg);
    err_clear(&err);
    cr_expect_eq(scheduler_submit(g.s, prompt, 0, &p, on_event, NULL, &id, &err), ST_ARG);
    err_clear(&err);
    prompt[3] = FAKE_VOCAB;
    cr_expect_eq(scheduler_submit(g.s, prompt, 5, &p, on_event, NULL, &id, &err), ST_ARG);
    cr_expect(strstr(err.msg, "64"), "%s", err.msg);
    err_clear(&err);
    prompt[3] = -1;
    cr_expect_eq(scheduler_submit(g.s, prompt, 5, &p, on_event, NULL, &id, &err), ST_ARG);
    err_clear(&err);
    p.top_p = 2;
    cr_expect_eq(scheduler_submit(g.s, prompt, 3, &p, on_event, NULL, &id, &err), ST_ARG);
    rig_close(&g);
}

Test(scheduler, cancelling_works_in_the_queue_in_a_pass_and_in_a_callback)
{
    struct rig g;
    struct seen run, queued, mine;
    int32_t prompt[30];
    fill_prompt(prompt, 30, 3);
    struct gen_params p = greedy(40);
    p.ignore_eos = true;
    rig_open(&g, 1, 90, 8);
    seen_init(&run);
    seen_init(&queued);
    fake_gate(&g.fake, true);
    rig_send(&g, prompt, 30, &p, &run);
    fake_await_pass(&g.fake);
    rig_send(&g, prompt, 30, &p, &queued);
    scheduler_cancel(g.s, queued.id);
    scheduler_cancel(g.s, run.id);
    scheduler_cancel(g.s, 12345);
    await_done(&run); /* the gate is still closed: it left in the middle of the pass */
    await_done(&queued);
    cr_expect_eq(run.finish, FINISH_CANCELLED);
    cr_expect_eq(queued.finish, FINISH_CANCELLED);
    cr_expect_eq(queued.n_started, 0);
    fake_gate(&g.fake, false);
    seen_init(&mine);
    mine.cancel_in = g.s;
    mine.cancel_after = 5;
    pthread_mutex_lock(&mine.lock); /* the id is written before the callback may read it */
    rig_send(&g, prompt, 30, &p, &mine);
    pthread_mutex_unlock(&mine.lock);
    await_done(&mine);
    cr_expect_eq(mine.finish, FINISH_CANCELLED);
    cr_expect_eq(mine.n_token, 5);
    struct seen after; /* the slot is free and its cache is sound */
    run_alone(&g, prompt, 30, &p, &after);
    cr_expect_eq(after.cached, 29);
    struct engine_stats st;
    scheduler_stats(g.s, &st);
    cr_expect_eq(st.cancelled, 3);
    cr_expect_eq(st.active, 0);
    seen_clear(&run);
    seen_clear(&queued);
    seen_clear(&mine);
    seen_clear(&after);
    rig_close(&g);
}

Test(scheduler, a_failed_pass_ends_its_requests_and_nothing_else)
{
    struct rig g;
    struct seen a, b;
    int32_t prompt[30];
    fill_prompt(prompt, 30, 4);
    struct gen_params p = greedy(20);
    p.ignore_eos = true;
    for (uint32_t fail = 0; fail < 6; fail++) {
        rig_open(&g, 1, 60, 16);
        g.fake.fail_pass = fail;
        seen_init(&a);
        rig_send(&g, prompt, 30, &p, &a);
        await_done(&a);
        cr_expect_eq(a.finish, FINISH_ERROR);
        cr_expect_eq(a.err.code, ST_IO);
        cr_expect_not_null(strstr(a.err.msg, "layer 3"));
        run_alone(&g, prompt, 30, &p, &b);
        struct engine_stats st;
        scheduler_stats(g.s, &st);
        cr_expect_eq(st.errors, 1);
        seen_clear(&a);
        seen_clear(&b);
        rig_close(&g);
    }
}

Test(scheduler, logits_that_are_no_numbers_are_an_error_of_the_request)
{
    struct rig g;
    struct seen a;
    int32_t prompt[] = { 1 };
    struct gen_params p = greedy(20);
    rig_open(&g, 1, 60, 16);
    g.fake.nan_logits = true;
    seen_init(&a);
    rig_send(&g, prompt, 1, &p, &a);
    await_done(&a);
    cr_expect_eq(a.finish, FINISH_ERROR);
    cr_expect_eq(a.err.code, ST_FORMAT);
    seen_clear(&a);
    rig_close(&g);
}

Test(scheduler, generation_stops_where_the_context_ends)
{
    struct rig g;
    struct seen s;
    int32_t prompt[50];
    fill_prompt(prompt, 50, 9);
    struct gen_params p = greedy(UINT32_MAX);
    p.ignore_eos = true;
    rig_open(&g, 2, 50, 16);
    for (uint32_t n = 1; n <= 50; n += 7) {
        run_alone(&g, prompt, n, &p, &s);
        cr_expect_eq(s.finish, FINISH_LENGTH);
        cr_expect_eq(s.n_token, 51 - n, "prompt %u", n);
        seen_clear(&s);
    }
    run_alone(&g, prompt, 50, &p, &s);
    cr_expect_eq(s.n_token, 1);
    seen_clear(&s);
    p.max_tokens = 0;
    run_alone(&g, prompt, 50, &p, &s);
    cr_expect(s.finish == FINISH_LENGTH && s.n_token == 0);
    seen_clear(&s);
    rig_close(&g);
}

static double logsumexp_oracle(const float *row)
{
    double sum = 0;
    for (int i = 0; i < FAKE_VOCAB; i++)
        sum += exp((double)row[i]);
    return log(sum);
}

Test(scheduler, scoring_a_prompt_gives_every_log_probability_in_order)
{
    struct rig g;
    struct seen s;
    enum { LEN = 200 };
    int32_t prompt[LEN];
    float row[FAKE_VOCAB];
    char want_text[LEN + 1] = "";
    fill_prompt(prompt, LEN, 10);
    struct gen_params p = greedy(2);
    p.prompt_logprobs = true;
    p.ignore_eos = true;
    p.logprobs = 3;
    rig_open(&g, 2, 220, 100); /* more than SCORE_ROWS_MAX tokens would fit a pass */
    for (int twice = 0; twice < 2; twice++) {
        run_alone(&g, prompt, LEN, &p, &s);
        cr_assert_eq(s.n_prompt, LEN);
        cr_expect_eq(s.cached, 0);
        cr_expect(isnan(s.prompt_logprob[0]));
        for (uint32_t i = 0; i < LEN; i++)
            want_text[i] = (char)('?' + prompt[i]);
        cr_expect(str_is(buf_view(&s.prompt_text), want_text));
        for (uint32_t i = 1; i < LEN; i++) {
            fake_row(prompt, i, row);
            double want = (double)row[prompt[i]] - logsumexp_oracle(row);
            cr_assert_float_eq((double)s.prompt_logprob[i], want, 1e-5, "token %u", i);
        }
        fake_row(prompt, LEN, row);
        cr_expect_float_eq((double)s.logprob[0], (double)row[s.token[0]] - logsumexp_oracle(row),
                           1e-5);
        cr_expect_eq(s.best[0], s.token[0], "greedy takes the most likely");
        cr_expect_eq(s.n_top, 3);
        seen_clear(&s);
    }
    rig_close(&g);
}

Test(scheduler, stop_strings_cut_the_text_and_name_themselves)
{
    struct rig g;
    struct seen free_run, s;
    int32_t prompt[] = { 7, 8, 9 };
    struct gen_params p = greedy(30);
    p.ignore_eos = true;
    rig_open(&g, 1, 60, 16);
    run_alone(&g, prompt, 3, &p, &free_run);
    cr_assert_eq(free_run.text.n, 30);
    char stop[4];
    snprintf(stop, sizeof stop, "%.3s", free_run.text.p + 10);
    p.stop[0] = "never in it";
    p.stop[1] = stop;
    p.n_stop = 2;
    seen_init(&s);
    rig_send(&g, prompt, 3, &p, &s);
    await_done(&s);
    cr_expect_eq(s.finish, FINISH_STOP);
    cr_expect_str_eq(s.stop, stop);
    size_t cut = str_find(buf_view(&free_run.text), str_c(stop), 0);
    cr_expect(str_eq(buf_view(&s.text), (struct str){ free_run.text.p, cut }));
    cr_expect_eq(s.n_token, cut + 3, "the tokens of the stop string were generated");
    seen_clear(&s);
    seen_clear(&free_run);
    rig_close(&g);
}

/* Largest number of prompt tokens in a pass that also decoded. */
static uint32_t most_beside_decoding(const struct fake *f, uint32_t *n_without)
{
    uint32_t most = 0;
    *n_without = 0;
    for (uint32_t i = 0; i < f->n_pass; i++) {
        if (f->pass[i].n_decode && f->pass[i].n_prompt_tok > most)
            most = f->pass[i].n_prompt_tok;
        *n_without += f->pass[i].n_decode == 0;
    }
    return most;
}

static uint32_t prompt_beside_decoding(bool streaming, uint32_t *n_without)
{
    struct rig g;
    struct seen a, b;
    int32_t prompt[400];
    fill_prompt(prompt, 400, 12);
    struct gen_params p = greedy(70);
    p.ignore_eos = true;
    rig_open_with(&g, 2, 480, 200, 8, streaming);
    seen_init(&a);
    seen_init(&b);
    fake_gate(&g.fake, true);
    rig_send(&g, prompt + 100, 4, &p, &a);
    fake_await_pass(&g.fake); /* the newcomer comes while the reader's first pass runs */
    rig_send(&g, prompt, 400, &p, &b);
    fake_gate(&g.fake, false);
    await_done(&a);
    await_done(&b);
    expect_solo(&a, prompt + 100, 4, &p, 480, "reader");
    expect_solo(&b, prompt, 400, &p, 480, "newcomer");
    seen_clear(&a);
    seen_clear(&b);
    scheduler_free(g.s);
    uint32_t most = most_beside_decoding(&g.fake, n_without);
    fake_clear(&g.fake);
    return most;
}

Test(scheduler, a_long_prompt_does_not_starve_decoding)
{
    uint32_t n_without;
    uint32_t most = prompt_beside_decoding(false, &n_without);
    cr_expect_leq(most, 50, "a quarter of the batch");
    cr_expect_leq(n_without, 1, "only the reader's own prompt ran without decoding");
    most = prompt_beside_decoding(true, &n_without);
    cr_expect_eq(most, 200, "streaming fills the pass: %u", most);
}

Test(scheduler, closing_cancels_everything_exactly_once)
{
    enum { N = 6 };
    struct rig g;
    struct seen s[N];
    int32_t prompt[40];
    fill_prompt(prompt, 40, 13);
    struct gen_params p = greedy(30);
    rig_open(&g, 2, 90, 8);
    fake_gate(&g.fake, true);
    for (int i = 0; i < N; i++) {
        seen_init(&s[i]);
        rig_send(&g, prompt, 40, &p, &s[i]);
    }
    fake_await_pass(&g.fake);
    scheduler_free(g.s);
    for (int i = 0; i < N; i++) {
        cr_expect_eq(s[i].n_done, 1);
        cr_expect_eq(s[i].finish, FINISH_CANCELLED);
        cr_expect_not(s[i].out_of_order);
        seen_clear(&s[i]);
    }
    fake_clear(&g.fake);
    scheduler_free(NULL);
}

/* ---- allocations: the allocator is wrapped at link time ---- */

static _Thread_local bool counting;
static size_t n_alloc;
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n)
{
    if (counting)
        n_alloc++;
    return __real_malloc(n);
}
void *__wrap_calloc(size_t n, size_t size)
{
    if (counting)
        n_alloc++;
    return __real_calloc(n, size);
}
void *__wrap_realloc(void *p, size_t n)
{
    if (counting)
        n_alloc++;
    return __real_realloc(p, n);
}

static void count_event(void *ctx, const struct gen_event *ev)
{
    struct seen *s = ctx;
    counting = false;
    pthread_mutex_lock(&s->lock);
    if (ev->kind == GEN_DONE)
        s->n_done++;
    s->n_token += ev->kind == GEN_TOKEN;
    pthread_cond_broadcast(&s->moved);
    pthread_mutex_unlock(&s->lock);
    counting = ev->kind == GEN_TOKEN;
}

Test(scheduler, decoding_allocates_nothing)
{
    struct rig g;
    struct seen a, b;
    struct err err = ERR_INIT;
    int32_t prompt[] = { 3, 1, 4 };
    struct gen_params p;
    gen_params_init(&p);
    p.max_tokens = 300;
    p.ignore_eos = true;
    p.logprobs = 5;
    p.repeat_penalty = 1.1f;
    p.stop[0] = "no such text";
    p.n_stop = 1;
    rig_open(&g, 2, 400, 16);
    seen_init(&a);
    seen_init(&b);
    fake_gate(&g.fake, true); /* both are in before anything is counted */
    cr_assert_eq(scheduler_submit(g.s, prompt, 3, &p, count_event, &a, &a.id, &err), ST_OK);
    cr_assert_eq(scheduler_submit(g.s, prompt, 2, &p, count_event, &b, &b.id, &err), ST_OK);
    fake_gate(&g.fake, false);
    seen_await(&a, &a.n_done, 1);
    seen_await(&b, &b.n_done, 1);
    rig_close(&g);
    cr_expect_eq(a.n_token, 300);
    cr_expect_eq(b.n_token, 300);
    cr_expect_eq(n_alloc, 0, "%zu allocations on the engine thread", n_alloc);
    seen_clear(&a);
    seen_clear(&b);
}
