/* Prompts, classes of failure, and the pace of asking. */
#include "engine/base/hash.h"
#include "eval/pace.h"
#include "eval/prompt.h"
#include "eval/score.h"
#include "tests/support/tmp.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#define OURS "bc466683a481f115374a3f1a32b02b099d248bb8531a07bcb2097bfee1ccdb6e"

/* ---- prompts ---- */

static struct prompt *open_text(const char *text, struct err *e)
{
    char dir[FILE_PATH_MAX];
    struct prompt *p = NULL;
    cr_assert(tmp_make(dir));
    const char *path = tmp_path(dir, "p.json");
    tmp_write(path, text, strlen(text));
    prompt_open(path, &p, e);
    tmp_remove(dir);
    return p;
}

Test(prompt, the_layout_is_the_papers)
{
    struct err e = ERR_INIT;
    struct buf b = BUF_INIT;
    struct prompt *p =
        open_text("{\"name\":\"one\",\"preamble\":\"Solve.\",\"shots\":[{\"question\":"
                  "\"Two and two?\",\"solution\":\"2 + 2 = 4. The answer is 4.\","
                  "\"answer\":4}]}",
                  &e);
    cr_assert(p, "%s", e.msg);
    prompt_prefix(p, 1, &b);
    prompt_ask(p, STR("Three and four?"), &b);
    cr_expect_str_eq(b.p,
                     "Solve.\n\nQ: Two and two?\nA: Let's think step by step. 2 + 2 = 4. The final "
                     "answer is 4.\n\nQ: Three and four?\nA: Let's think step by step.");
    buf_reset(&b);
    prompt_chat_prefix(p, 1, &b);
    prompt_chat_ask(p, STR("\"3\"?"), &b);
    cr_expect_str_eq(b.p,
                     "[{\"role\":\"system\",\"content\":\"Solve.\"},{\"role\":\"user\",\"content\":"
                     "\"Two and two?\"},{\"role\":\"assistant\",\"content\":\"Let's think step by "
                     "step. 2 + 2 = 4. The final answer is 4.\"},{\"role\":\"user\",\"content\":"
                     "\"\\\"3\\\"?\"");
    buf_clear(&b);
    prompt_free(p);
}

/* Golden: a changed byte of our own prompt changes what runs may be compared. */
Test(prompt, ours_is_what_it_was)
{
    struct err e = ERR_INIT;
    struct buf b = BUF_INIT;
    struct prompt *p = NULL;
    struct sha256 h;
    char hex[65];
    cr_assert_eq(prompt_open(NULL, &p, &e), ST_OK);
    cr_expect_eq(prompt_shots(p), 8u);
    prompt_prefix(p, 8, &b);
    sha256_init(&h);
    sha256_add(&h, b.p, b.n);
    sha256_hex(&h, hex);
    cr_expect_str_eq(hex, OURS);
    buf_clear(&b);
    prompt_free(p);
}

Test(prompt, every_solution_of_ours_is_true_and_ends_at_its_answer)
{
    struct err e = ERR_INIT;
    struct buf b = BUF_INIT;
    struct prompt *p = NULL;
    struct step_check c;
    cr_assert_eq(prompt_open(NULL, &p, &e), ST_OK);
    prompt_prefix(p, 8, &b);
    score_steps(buf_view(&b), &c);
    cr_expect(c.n >= 10 && c.n_false == 0, "%u steps, %u false, the first: %.*s", c.n, c.n_false,
              (int)(c.end - c.begin), b.p + c.begin);
    /* Each block's own answer is what our ladder finds in it. */
    size_t at = 0, n = 0;
    while ((at = str_find(buf_view(&b), STR("\nA: "), at)) != SIZE_MAX) {
        size_t end = str_find(buf_view(&b), STR("\n\n"), at + 1);
        struct extract_all all;
        extract_answer((struct str){ b.p + at + 1, end - at - 1 }, &all, &e);
        cr_expect(all.hit[EXTRACT_STRICT].is_number);
        at = end;
        n++;
    }
    cr_expect_eq(n, 8u);
    buf_clear(&b);
    prompt_free(p);
}

Test(prompt, wrong_files_are_refused_by_place)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        { "", "" },
        { "7", "neither" },
        { "{\"shots\":7}", "'shots' must be a list" },
        { "[{\"question\":\"a\",\"solution\":\"b\"}]", "shot 1" },
        { "[{\"question\":\"a\",\"solution\":7,\"answer\":\"1\"}]", "shot 1" },
        { "{\"stop\":[\"\"]}", "'stop'" },
        { "{\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\"]}", "'stop'" },
        { "{\"name\":\"a\",\"name\":\"b\"}", "" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err e = ERR_INIT;
        struct prompt *p = open_text(cases[i].text, &e);
        cr_expect(!p && e.code == ST_FORMAT && strstr(e.msg, cases[i].says), "'%s': %d %s",
                  cases[i].text, (int)e.code, e.msg);
        prompt_free(p);
    }
    struct err e = ERR_INIT;
    struct prompt *p = open_text("[]", &e); /* no examples are a prompt, too */
    cr_expect(p && prompt_shots(p) == 0);
    prompt_free(p);
}

/* ---- classes ---- */

Test(score, failures_are_told_apart)
{
    static const struct {
        const char *response, *finish;
        enum sample_class want;
    } cases[] = {
        { "The final answer is 42.", "stop", CLASS_CORRECT },
        { "The final answer is 42.", "length", CLASS_CORRECT },
        { "", "stop", CLASS_EMPTY },
        { " \n", "length", CLASS_EMPTY },
        { "First we take 40", "length", CLASS_TRUNCATED },
        { "I'm sorry, I cannot help with that.", "stop", CLASS_REFUSAL },
        { "It is a nice day.", "stop", CLASS_UNPARSED },
        { "The final answer is 37.", "stop", CLASS_TRAP },
        { "The final answer is 30.", "stop", CLASS_STEP },
        { "The final answer is -42.", "stop", CLASS_SIGN },
        { "The final answer is 4200.", "stop", CLASS_SIGN },
        { "The final answer is 0.42.", "stop", CLASS_SIGN },
        { "30 + 12 = 43. The final answer is 43.", "stop", CLASS_ARITHMETIC },
        { "30 + 13 = 43. The final answer is 43.", "stop", CLASS_OTHER },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct run_sample s = { .gold_num = 42,
                                .gold_den = 1,
                                .gold_text = STR("42"),
                                .response = str_c(cases[i].response),
                                .finish = str_c(cases[i].finish),
                                .info = STR(
                                    "{\"traps\":[{\"value\":\"47\",\"why\":\"ans+k\"},{\"value\":"
                                    "\"37\",\"why\":\"ans-k\"}],\"solution\":\"5 * 6 = 30, 30 + "
                                    "12 = 42\"}") };
        struct err e = ERR_INIT;
        cr_assert_eq(score_sample(&s, EXTRACT_FLEXIBLE, &e), ST_OK);
        cr_expect_eq(s.klass, cases[i].want, "'%s': %s, not %s", cases[i].response,
                     sample_class_name(s.klass), sample_class_name(cases[i].want));
        cr_expect_eq(s.trap, cases[i].want == CLASS_TRAP ? 1 : -1);
        cr_expect_eq(s.version, EXTRACT_VERSION);
    }
}

Test(score, steps_are_computed_again)
{
    static const struct {
        const char *text;
        unsigned n, n_false;
    } cases[] = {
        { "2 + 2 = 4", 1, 0 },
        { "2 + 2 = 5", 1, 1 },
        { "$2.50 * 4 = $10", 1, 0 },
        { "1,200 - 1 = 1,199 and 7 / 2 = 3.5", 2, 0 },
        { "10 / 3 = 3.33", 1, 0 },
        { "10 / 3 = 3.34", 1, 1 },
        { "6 \xc3\x97 7 = 42; 6 x 7 = 41", 2, 1 },
        { "1 + 2 * 3 = 7", 0, 0 }, /* part of more: not judged */
        { "2 + 2 = four", 0, 0 },
        { "5 / 0 = 7", 0, 0 },
        { "99999999999999999999 + 1 = 2", 0, 0 },
        { "", 0, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct step_check c;
        score_steps(str_c(cases[i].text), &c);
        cr_expect(c.n == cases[i].n && c.n_false == cases[i].n_false, "'%s': %u steps, %u false",
                  cases[i].text, c.n, c.n_false);
    }
}

/* ---- pace ---- */

#define MS 1000000ull

Test(pace, the_window_doubles_then_halves_once_for_a_burst_then_creeps)
{
    struct pace p;
    uint64_t wait, now = 1000 * MS;
    pace_init(&p, &(struct pace_opts){ .start = 8, .max = 100 }, now);
    for (int i = 0; i < 40; i++)
        pace_ok(&p, 0);
    cr_expect_eq(pace_window(&p), 48u, "one more per answer while all goes well");
    for (int i = 0; i < 20; i++)
        pace_refused(&p, 0, now);
    cr_expect_eq(pace_window(&p), 24u, "a burst of refusals is one message");
    pace_refused(&p, 0, now + 2000 * MS);
    cr_expect_eq(pace_window(&p), 12u);
    for (int i = 0; i < 13; i++)
        pace_ok(&p, 0);
    cr_expect_eq(pace_window(&p), 13u, "then one more per window");
    for (int i = 0; i < 30; i++)
        pace_refused(&p, 0, now + (4000 + 2000 * (uint64_t)i) * MS);
    cr_expect_eq(pace_window(&p), 1u, "never none");
    cr_expect(pace_take(&p, 0, now + 90000 * MS, &wait));
    cr_expect(!pace_take(&p, 1, now + 90000 * MS, &wait));
}

Test(pace, retry_after_is_waited_for)
{
    struct pace p;
    uint64_t wait, now = 1000 * MS;
    pace_init(&p, &(struct pace_opts){ 0 }, now);
    pace_refused(&p, 500 * MS, now);
    cr_expect(!pace_take(&p, 0, now + 100 * MS, &wait));
    cr_expect_eq(wait, 400 * MS);
    cr_expect(pace_take(&p, 0, now + 500 * MS, &wait));
}

/* Simulated for ten minutes: never more than the rate and the bucket allow. */
Test(pace, rates_hold_over_any_minute)
{
    struct pace p;
    uint64_t wait, now = 1, sent = 0;
    pace_init(&p, &(struct pace_opts){ .rpm = 120, .max = 64 }, now);
    for (; now < 600000 * MS; now += 20 * MS)
        sent += pace_take(&p, 0, now, &wait);
    cr_expect(sent >= 1190 && sent <= 1205, "%llu in ten minutes at 120 a minute",
              (unsigned long long)sent);
    pace_init(&p, &(struct pace_opts){ .tpm = 6000, .max = 64 }, now);
    uint64_t tokens = 0, start = now;
    for (; now < start + 600000 * MS; now += 20 * MS)
        if (pace_take(&p, 0, now, &wait)) {
            pace_ok(&p, 500);
            tokens += 500;
        }
    cr_expect(tokens >= 59000 && tokens <= 61500, "%llu tokens in ten minutes at 6000 a minute",
              (unsigned long long)tokens);
}
