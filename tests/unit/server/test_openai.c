#include "server/openai.h"
#include "tests/unit/server/rig.h"

#include <criterion/criterion.h>
#include <stdio.h>

/* The tiny model knows 288 ids. */
static struct server_rig rig;

static void open_rig(void)
{
    server_rig_open(&rig);
}
static void close_rig(void)
{
    server_rig_close(&rig);
}
TestSuite(openai, .init = open_rig, .fini = close_rig);

static struct call parse(bool chat, const char *body, struct gen_ask *a, bool *ok)
{
    struct err err = ERR_INIT;
    json_t *doc;
    struct call c = rig_call(&rig, body);
    cr_assert_eq(json_parse(c.body, "case", &doc, &err), ST_OK, "%s: %s", body, err.msg);
    *ok = ask_parse(&c, doc, chat, a);
    json_free(doc);
    return c;
}

/* The members of a request whose prompt is fine. */
static const char *with(bool chat, const char *members)
{
    static char text[65536];
    snprintf(text, sizeof text, "{%s%s%s}",
             chat ? "\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]" : "\"prompt\":\"Hi\"",
             members[0] ? "," : "", members);
    return text;
}

struct refusal {
    const char *members, *param;
};

static void expect_refusals(bool chat, const struct refusal *r, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct gen_ask a;
        bool ok;
        struct call c = parse(chat, with(chat, r[i].members), &a, &ok);
        cr_expect(!ok && c.reply.status == 400, "%s: %d", r[i].members, c.reply.status);
        if (!ok)
            cr_expect_str_eq(rig_error(&c, "param"), r[i].param, "%s: %s", r[i].members,
                             rig_error(&c, "message"));
        ask_clear(&a);
        rig_call_clear(&c);
    }
}

Test(openai, wrong_types_and_values_are_refused_by_name)
{
    static const struct refusal both[] = {
        { "\"temperature\":-0.1", "temperature" },
        { "\"temperature\":2.1", "temperature" },
        { "\"temperature\":\"1\"", "temperature" },
        { "\"top_p\":1.01", "top_p" },
        { "\"top_p\":[]", "top_p" },
        { "\"min_p\":-1", "min_p" },
        { "\"top_k\":-1", "top_k" },
        { "\"top_k\":1.5", "top_k" },
        { "\"top_k\":2147483648", "top_k" },
        { "\"presence_penalty\":2.5", "presence_penalty" },
        { "\"frequency_penalty\":-3", "frequency_penalty" },
        { "\"repeat_penalty\":0", "repeat_penalty" },
        { "\"repetition_penalty\":11", "repetition_penalty" },
        { "\"repeat_last_n\":-1", "repeat_last_n" },
        { "\"draft_max\":17", "draft_max" },
        { "\"draft_max\":-1", "draft_max" },
        { "\"seed\":1.5", "seed" },
        { "\"seed\":true", "seed" },
        { "\"n\":0", "n" },
        { "\"n\":65", "n" },
        { "\"n\":\"2\"", "n" },
        { "\"stream\":1", "stream" },
        { "\"stream\":\"true\"", "stream" },
        { "\"stream_options\":[]", "stream_options" },
        { "\"stream_options\":{\"include_usage\":1}", "include_usage" },
        { "\"max_tokens\":-1", "max_tokens" },
        { "\"max_tokens\":4294967295", "max_tokens" },
        { "\"max_tokens\":\"many\"", "max_tokens" },
        { "\"max_completion_tokens\":0", "max_completion_tokens" },
        { "\"n_predict\":-2", "n_predict" },
        { "\"ignore_eos\":0", "ignore_eos" },
        { "\"cache_prompt\":\"no\"", "cache_prompt" },
        { "\"stop\":5", "stop" },
        { "\"stop\":[\"a\",5]", "stop" },
        { "\"stop\":{}", "stop" },
        { "\"stop\":\"\\u0000\"", "stop" },
        { "\"stop\":[\"a\\u0000b\"]", "stop" },
        { "\"logit_bias\":[]", "logit_bias" },
        { "\"flash\":true", "flash" },
        { "\"flash\":{\"trace\":1}", "flash.trace" },
        { "\"logit_bias\":{\"x\":1}", "logit_bias" },
        { "\"logit_bias\":{\"-1\":1}", "logit_bias" },
        { "\"logit_bias\":{\"288\":1}", "logit_bias" },
        { "\"logit_bias\":{\"5\":100.5}", "logit_bias" },
        { "\"logit_bias\":{\"5\":\"1\"}", "logit_bias" },
    };
    expect_refusals(false, both, sizeof both / sizeof both[0]);
    expect_refusals(true, both, sizeof both / sizeof both[0]);
}

Test(openai, what_is_not_served_is_refused_and_not_ignored)
{
    static const struct refusal both[] = {
        { "\"response_format\":{\"type\":\"json_object\"}", "response_format" },
        { "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{}}", "response_format" },
        { "\"response_format\":{}", "response_format" },
        { "\"response_format\":\"text\"", "response_format" },
        { "\"suffix\":\"x\"", "suffix" },
        { "\"functions\":[{}]", "functions" },
        { "\"grammar\":\"root ::= x\"", "grammar" },
        { "\"json_schema\":{}", "json_schema" },
        { "\"tool_choice\":\"required\"", "tool_choice" },
        { "\"tool_choice\":{\"type\":\"function\"}", "tool_choice" },
        { "\"best_of\":3,\"n\":2", "best_of" },
        { "\"best_of\":129", "best_of" },
    };
    expect_refusals(false, both, sizeof both / sizeof both[0]);
    expect_refusals(true, both, sizeof both / sizeof both[0]);
}

Test(openai, each_api_has_its_own_logprobs)
{
    static const struct refusal text[] = {
        { "\"logprobs\":-1", "logprobs" },
        { "\"logprobs\":21", "logprobs" },
        { "\"logprobs\":true", "logprobs" },
        { "\"echo\":1", "echo" },
    };
    static const struct refusal chat[] = {
        { "\"logprobs\":1", "logprobs" },
        { "\"logprobs\":true,\"top_logprobs\":21", "top_logprobs" },
        { "\"logprobs\":true,\"top_logprobs\":-1", "top_logprobs" },
        { "\"top_logprobs\":2", "top_logprobs" },
        { "\"max_tokens\":0", "max_tokens" },
    };
    static const struct {
        bool chat;
        const char *members;
        int32_t logprobs;
        bool prompt_too;
    } fine[] = {
        { false, "", -1, false },
        { false, "\"logprobs\":null", -1, false },
        { false, "\"logprobs\":false", -1, false },
        { false, "\"logprobs\":0", 0, false },
        { false, "\"logprobs\":20,\"echo\":true", 20, true },
        { false, "\"echo\":true", -1, false },
        { true, "\"logprobs\":false", -1, false },
        { true, "\"logprobs\":true", 0, false },
        { true, "\"logprobs\":true,\"top_logprobs\":20", 20, false },
    };
    expect_refusals(false, text, sizeof text / sizeof text[0]);
    expect_refusals(true, chat, sizeof chat / sizeof chat[0]);
    for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++) {
        struct gen_ask a;
        bool ok;
        struct call c = parse(fine[i].chat, with(fine[i].chat, fine[i].members), &a, &ok);
        cr_assert(ok, "%s", fine[i].members);
        cr_expect_eq(a.p.logprobs, fine[i].logprobs, "%s: %d", fine[i].members, a.p.logprobs);
        cr_expect_eq(a.want_logprobs, fine[i].logprobs >= 0, "%s", fine[i].members);
        cr_expect_eq(a.p.prompt_logprobs, fine[i].prompt_too, "%s", fine[i].members);
        ask_clear(&a);
        rig_call_clear(&c);
    }
}

Test(openai, accepted_values_arrive)
{
    struct gen_ask a;
    bool ok;
    struct call c =
        parse(false,
              with(false, "\"temperature\":2,\"top_p\":0,\"top_k\":5,\"min_p\":1,"
                          "\"presence_penalty\":-2,\"frequency_penalty\":2,"
                          "\"repetition_penalty\":1.5,\"repeat_last_n\":0,"
                          "\"seed\":-1,\"n\":2,\"best_of\":2,\"max_tokens\":0,"
                          "\"stop\":[\"\",\"end\",\"\\n\"],\"logit_bias\":{\"287\":-100},"
                          "\"stream\":true,\"stream_options\":{\"include_usage\":true},"
                          "\"ignore_eos\":true,\"cache_prompt\":false,"
                          "\"response_format\":{\"type\":\"text\"},\"private\":{}"),
              &a, &ok);
    cr_assert(ok, "%s", buf_view(&c.reply.body).p);
    cr_expect(a.p.temperature == 2 && a.p.top_p == 0 && a.p.top_k == 5 && a.p.min_p == 1);
    cr_expect(a.p.presence_penalty == -2 && a.p.frequency_penalty == 2 &&
              a.p.repeat_penalty == 1.5f && a.p.repeat_last_n == 0);
    cr_expect(a.seeded && a.p.seed == UINT64_MAX);
    cr_expect(a.n == 2 && a.n_prompt == 1 && a.p.max_tokens == 0);
    cr_assert_eq(a.p.n_stop, 2, "an empty stop text is none: %zu", a.p.n_stop);
    cr_expect_str_eq(a.p.stop[0], "end");
    cr_assert_eq(a.p.n_bias, 1);
    cr_expect(a.p.bias[0].token == 287 && a.p.bias[0].bias == -100);
    cr_expect(a.stream && a.include_usage && a.p.ignore_eos && !a.p.cache_prompt);
    ask_clear(&a);
    rig_call_clear(&c);
}

Test(openai, lengths_have_one_default_and_the_newer_name_wins)
{
    static const struct {
        const char *members;
        uint32_t max;
    } cases[] = {
        { "", DEFAULT_MAX_TOKENS },         { "\"max_tokens\":null", DEFAULT_MAX_TOKENS },
        { "\"max_tokens\":3", 3 },          { "\"n_predict\":4", 4 },
        { "\"n_predict\":-1", UINT32_MAX }, { "\"max_tokens\":3,\"max_completion_tokens\":9", 9 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gen_ask a;
        bool ok;
        struct call c = parse(true, with(true, cases[i].members), &a, &ok);
        cr_expect(ok && a.p.max_tokens == cases[i].max, "%s: %u", cases[i].members, a.p.max_tokens);
        cr_expect(!a.seeded && a.n == 1 && !a.stream && a.p.temperature == 1 && a.p.top_p == 1);
        ask_clear(&a);
        rig_call_clear(&c);
    }
}

Test(openai, stop_lists_and_bias_maps_have_limits)
{
    static const struct {
        const char *what, *one;
        int most;
        char open, close;
    } lists[] = { { "stop", "\"%d\"", GEN_STOPS_MAX, '[', ']' } };
    for (int over = 0; over < 2; over++) {
        struct buf b = BUF_INIT;
        struct gen_ask a;
        bool ok;
        buf_printf(&b, "\"%s\":%c", lists[0].what, lists[0].open);
        for (int i = 0; i < lists[0].most + over; i++)
            buf_printf(&b, "%s\"s%d\"", i ? "," : "", i);
        buf_char(&b, lists[0].close);
        struct call c = parse(false, with(false, buf_view(&b).p), &a, &ok);
        cr_expect_eq(ok, !over, "%d stop texts", lists[0].most + over);
        ask_clear(&a);
        rig_call_clear(&c);
        buf_clear(&b);
    }
}

Test(openai, prompts_come_in_four_shapes)
{
    static const struct {
        const char *body;
        bool ok;
        uint32_t n_prompt;
    } cases[] = {
        { "{\"prompt\":\"Hi\"}", true, 1 },
        { "{\"prompt\":[\"a\",\"b\",\"c\"]}", true, 3 },
        { "{\"prompt\":[1,2,287]}", true, 1 },
        { "{\"prompt\":[[1],[2,3]]}", true, 2 },
        { "{\"prompt\":[[1],\"a\"]}", true, 2 },
        { "{}", false, 0 },
        { "{\"prompt\":null}", false, 0 },
        { "{\"prompt\":5}", false, 0 },
        { "{\"prompt\":{}}", false, 0 },
        { "{\"prompt\":[]}", false, 0 },
        { "{\"prompt\":[[]]}", false, 0 },
        { "{\"prompt\":[1,\"a\"]}", false, 0 },
        { "{\"prompt\":[1,2.5]}", false, 0 },
        { "{\"prompt\":[288]}", false, 0 },
        { "{\"prompt\":[-1]}", false, 0 },
        { "{\"prompt\":[null]}", false, 0 },
        { "{\"prompt\":[[[1]]]}", false, 0 },
        { "{\"prompt\":[[9223372036854775807]]}", false, 0 },
        { "{\"prompt\":[\"a\",\"b\"],\"n\":33}", false, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gen_ask a;
        bool ok;
        struct call c = parse(false, cases[i].body, &a, &ok);
        cr_expect_eq(ok, cases[i].ok, "%s", cases[i].body);
        if (ok)
            cr_expect_eq(a.n_prompt, cases[i].n_prompt, "%s: %u", cases[i].body, a.n_prompt);
        else
            cr_expect(c.reply.status == 400 && rig_error(&c, "param")[0], "%s", cases[i].body);
        ask_clear(&a);
        rig_call_clear(&c);
    }
}

Test(openai, more_choices_than_slots_and_queue_hold_are_refused_for_good)
{
    static const struct {
        unsigned n;
        bool ok;
    } cases[] = { { RIG_QUEUE + RIG_SLOTS, true }, { RIG_QUEUE + RIG_SLOTS + 1, false } };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char member[32];
        struct gen_ask a;
        bool ok;
        snprintf(member, sizeof member, "\"n\":%u", cases[i].n);
        struct call c = parse(false, with(false, member), &a, &ok);
        cr_expect_eq(ok, cases[i].ok, "n %u", cases[i].n);
        if (!ok)
            cr_expect(c.reply.status == 400 && !strcmp(rig_error(&c, "param"), "n"));
        ask_clear(&a);
        rig_call_clear(&c);
    }
}

Test(openai, messages_must_be_a_list_that_the_template_takes)
{
    static const char *const wrong[] = {
        "{}",
        "{\"messages\":null}",
        "{\"messages\":[]}",
        "{\"messages\":\"Hi\"}",
        "{\"messages\":{}}",
        "{\"messages\":[5]}",
        "{\"messages\":[{\"content\":\"no role\"}]}",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct gen_ask a;
        bool ok;
        struct call c = parse(true, wrong[i], &a, &ok);
        cr_expect(!ok && c.reply.status == 400, "%s: %d", wrong[i], c.reply.status);
        if (!ok)
            cr_expect_str_eq(rig_error(&c, "param"), "messages", "%s", wrong[i]);
        ask_clear(&a);
        rig_call_clear(&c);
    }
}
