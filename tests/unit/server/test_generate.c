#include "server/openai.h"
#include "tests/unit/server/rig.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

enum { EVENTS_MAX = 400 };

static struct server_rig rig;

static void open_rig(void)
{
    server_rig_open(&rig);
}
static void close_rig(void)
{
    server_rig_close(&rig);
}
TestSuite(generate, .init = open_rig, .fini = close_rig);

/* Splits "data: ...\n\n" events, in place; fails on anything else. */
static size_t split(struct buf *b, char **event)
{
    size_t n = 0;
    for (char *p = b->p; p && *p;) {
        char *end = strstr(p, "\n\n");
        cr_assert(end && strncmp(p, "data: ", 6) == 0 && n < EVENTS_MAX, "no event: %s", p);
        *end = '\0';
        cr_assert_null(strchr(p, '\n'), "an event is one line: %s", p);
        event[n++] = p + 6;
        p = end + 2;
    }
    return n;
}

static json_t *parsed(const char *text)
{
    json_t *doc;
    struct err err = ERR_INIT;
    cr_assert_eq(json_parse(str_c(text), "event", &doc, &err), ST_OK, "%s: %s", text, err.msg);
    return doc;
}

static const char *text_of(const json_t *doc, const char *key)
{
    const char *v = json_string_value(json_object_get(doc, key));
    return v ? v : "";
}

/* Runs a streaming request and checks what every chunk has in common. */
static size_t stream(struct call *c, bool chat, struct buf *b, char **event)
{
    (chat ? api_chat : api_completions)(c);
    cr_assert_not_null(c->stream, "%s", buf_view(&c->reply.body).p);
    cr_assert(rig_drain(c, b), "broken");
    size_t n = split(b, event);
    cr_assert_geq(n, 3);
    cr_expect_str_eq(event[n - 1], "[DONE]");
    json_t *first = parsed(event[0]);
    for (size_t i = 0; i + 1 < n; i++) {
        json_t *d = parsed(event[i]);
        cr_expect_str_eq(text_of(d, "object"), chat ? "chat.completion.chunk" : "text_completion");
        cr_expect_str_eq(text_of(d, "id"), text_of(first, "id"));
        cr_expect(json_equal(json_object_get(d, "created"), json_object_get(first, "created")));
        json_free(d);
    }
    json_free(first);
    return n;
}

Test(generate, a_chat_stream_opens_with_the_role_and_ends_with_a_reason_and_the_usage)
{
    struct buf b = BUF_INIT;
    char *event[EVENTS_MAX];
    struct call c =
        rig_call(&rig, "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"seed\":1,"
                       "\"max_tokens\":5,\"ignore_eos\":true,\"stream\":true,"
                       "\"stream_options\":{\"include_usage\":true}}");
    size_t n = stream(&c, true, &b, event);
    json_t *d = parsed(event[0]);
    const json_t *choice = json_array_get(json_object_get(d, "choices"), 0);
    const json_t *delta = json_object_get(choice, "delta");
    cr_expect_str_eq(text_of(delta, "role"), "assistant");
    cr_expect(json_is_null(json_object_get(choice, "finish_reason")));
    cr_expect(json_is_null(json_object_get(d, "usage")), "null until the last");
    json_free(d);
    d = parsed(event[n - 3]);
    choice = json_array_get(json_object_get(d, "choices"), 0);
    cr_expect_str_eq(text_of(choice, "finish_reason"), "length");
    cr_expect_eq(json_object_size(json_object_get(choice, "delta")), 0);
    json_free(d);
    d = parsed(event[n - 2]);
    cr_expect_eq(json_array_size(json_object_get(d, "choices")), 0);
    cr_expect_eq(
        json_integer_value(json_object_get(json_object_get(d, "usage"), "completion_tokens")), 5);
    json_free(d);
    rig_call_clear(&c);
    buf_clear(&b);
}

Test(generate, choices_of_a_stream_are_told_apart_and_each_ends_once)
{
    struct buf b = BUF_INIT;
    char *event[EVENTS_MAX];
    unsigned ended[6] = { 0 };
    struct call c = rig_call(&rig, "{\"prompt\":[\"a\",\"b\"],\"n\":3,\"max_tokens\":4,\"seed\":1,"
                                   "\"logprobs\":2,\"stream\":true}");
    size_t n = stream(&c, false, &b, event), n_token = 0;
    for (size_t i = 0; i + 1 < n; i++) {
        json_t *d = parsed(event[i]);
        const json_t *choice = json_array_get(json_object_get(d, "choices"), 0);
        json_int_t k = json_integer_value(json_object_get(choice, "index"));
        cr_assert(k >= 0 && k < 6);
        cr_expect_eq(ended[k], 0, "choice %d goes on after its end", (int)k);
        ended[k] += text_of(choice, "finish_reason")[0] != '\0';
        const json_t *lp = json_object_get(choice, "logprobs");
        n_token += json_array_size(json_object_get(lp, "tokens"));
        cr_expect_eq(json_array_size(json_object_get(lp, "tokens")),
                     json_array_size(json_object_get(lp, "text_offset")));
        cr_expect_null(json_object_get(d, "usage"), "usage was not asked for");
        json_free(d);
    }
    for (int k = 0; k < 6; k++)
        cr_expect_eq(ended[k], 1, "choice %d ended %u times", k, ended[k]);
    cr_expect(n_token > 0 && n_token <= 24, "%zu tokens", n_token);
    rig_call_clear(&c);
    buf_clear(&b);
}

/* A request in whose first event the engine stands still: what comes meanwhile cannot have ended.
 */
struct standstill {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    bool here, go, done;
};

static void stand_still(void *ctx, const struct gen_event *ev)
{
    struct standstill *s = ctx;
    pthread_mutex_lock(&s->lock);
    s->here = true;
    s->done |= ev->kind == GEN_DONE;
    pthread_cond_broadcast(&s->moved);
    while (!s->go)
        pthread_cond_wait(&s->moved, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

static void await(struct standstill *s, const bool *what)
{
    pthread_mutex_lock(&s->lock);
    while (!*what)
        pthread_cond_wait(&s->moved, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

static void stand(struct standstill *s)
{
    static const int32_t prompt[] = { 40 };
    struct err err = ERR_INIT;
    struct gen_params p;
    uint64_t id;
    gen_params_init(&p);
    p.max_tokens = 1;
    *s = (struct standstill){ PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, false,
                              false };
    cr_assert_eq(engine_submit(rig.server.engine, prompt, 1, &p, stand_still, s, &id, &err), ST_OK,
                 "%s", err.msg);
    await(s, &s->here);
}

static void go_on(struct standstill *s)
{
    pthread_mutex_lock(&s->lock);
    s->go = true;
    pthread_cond_broadcast(&s->moved);
    pthread_mutex_unlock(&s->lock);
    await(s, &s->done);
}

static void cancel_one(bool by_header)
{
    struct buf b = BUF_INIT;
    char *event[EVENTS_MAX];
    struct standstill s;
    struct call c = rig_call(&rig, "{\"prompt\":\"a\",\"n\":32,\"max_tokens\":120,\"seed\":1,"
                                   "\"ignore_eos\":true,\"stream\":true}");
    stand(&s);
    api_completions(&c);
    cr_assert_not_null(c.stream);
    struct call stop = rig_call(&rig, "");
    stop.arg = "cmpl-none";
    api_cancel(&stop);
    cr_expect_eq(stop.reply.status, 404);
    buf_clear(&stop.reply.body);
    stop.arg = by_header ? "req-0000000000000001" : "cmpl-0000000000000001";
    api_cancel(&stop);
    cr_expect_eq(stop.reply.status, 200);
    buf_clear(&stop.reply.body);
    go_on(&s);
    cr_assert(rig_drain(&c, &b));
    size_t n = 0;
    cr_expect_null(strstr(b.p, "[DONE]"));
    n = split(&b, event);
    json_t *d = parsed(event[n - 1]);
    cr_expect_str_eq(text_of(json_object_get(d, "error"), "code"), "cancelled");
    json_free(d);
    rig_call_clear(&c);
}

Test(generate, a_cancelled_stream_ends_with_an_error_and_without_done)
{
    cancel_one(false);
    cancel_one(true);
}

Test(generate, one_body_has_every_choice_in_order)
{
    struct buf b = BUF_INIT;
    struct call c = rig_call(&rig, "{\"prompt\":[\"a\",\"bb\"],\"n\":2,\"max_tokens\":3,\"seed\":1,"
                                   "\"echo\":true,\"ignore_eos\":true}");
    api_completions(&c);
    cr_assert(c.stream && c.stream_whole);
    cr_assert(rig_drain(&c, &b));
    cr_expect_eq(atomic_load(&c.stream_status), 200);
    json_t *d = parsed(buf_view(&b).p);
    const json_t *choices = json_object_get(d, "choices");
    cr_assert_eq(json_array_size(choices), 4);
    for (size_t i = 0; i < 4; i++) {
        const json_t *ch = json_array_get(choices, i);
        cr_expect_eq(json_integer_value(json_object_get(ch, "index")), (json_int_t)i);
        cr_expect_eq(strncmp(text_of(ch, "text"), i < 2 ? "a" : "bb", i < 2 ? 1 : 2), 0,
                     "echo of %zu: %s", i, text_of(ch, "text"));
    }
    cr_expect_eq(
        json_integer_value(json_object_get(json_object_get(d, "usage"), "completion_tokens")), 12);
    json_free(d);
    rig_call_clear(&c);
    buf_clear(&b);
}

Test(generate, a_body_that_is_no_object_is_refused)
{
    static const char *const bodies[] = { "",
                                          "null",
                                          "[]",
                                          "\"x\"",
                                          "5",
                                          "{",
                                          "{}}",
                                          "{\"a\":1,\"a\":2}",
                                          "\xEF\xBB\xBF{}",
                                          "{\"prompt\":\"\xFF\"}" };
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        struct call c = rig_call(&rig, bodies[i]);
        api_completions(&c);
        cr_expect(c.reply.status == 400 && !c.stream, "%s: %d", bodies[i], c.reply.status);
        cr_expect_str_eq(rig_error(&c, "code"), "invalid_json", "%s", bodies[i]);
        rig_call_clear(&c);
    }
}

Test(generate, text_offsets_point_into_the_echoed_text)
{
    struct buf b = BUF_INIT;
    struct call c =
        rig_call(&rig, "{\"prompt\":\"abc d\",\"max_tokens\":3,\"seed\":1,\"echo\":true,"
                       "\"logprobs\":0,\"ignore_eos\":true}");
    api_completions(&c);
    cr_assert(c.stream && rig_drain(&c, &b));
    json_t *d = parsed(buf_view(&b).p);
    const json_t *ch = json_array_get(json_object_get(d, "choices"), 0);
    const json_t *lp = json_object_get(ch, "logprobs");
    const json_t *at = json_object_get(lp, "text_offset");
    json_int_t n_prompt =
        json_integer_value(json_object_get(json_object_get(d, "usage"), "prompt_tokens"));
    size_t n = json_array_size(at);
    cr_assert_eq((json_int_t)n, n_prompt + 3);
    for (size_t i = 1; i < n; i++)
        cr_expect_geq(json_integer_value(json_array_get(at, i)),
                      json_integer_value(json_array_get(at, i - 1)));
    cr_expect_eq(json_integer_value(json_array_get(at, (size_t)n_prompt)), 5,
                 "the continuation starts behind the five characters of the prompt");
    json_free(d);
    rig_call_clear(&c);
    buf_clear(&b);
}

Test(generate, an_estimate_names_what_is_wrong_and_no_path)
{
    static const struct {
        const char *body, *param;
        int status;
    } cases[] = {
        { "{}", "ram", 400 },
        { "{\"ram\":\"1GB\"}", "ram", 400 },
        { "{\"ram\":1,\"ctx\":0}", "ctx", 400 },
        { "{\"ram\":1,\"slots\":-1}", "slots", 400 },
        { "{\"ram\":1,\"model\":5}", "model", 400 },
        { "{\"ram\":1,\"model\":\"/etc/passwd\"}", "model", 404 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct call c = rig_call(&rig, cases[i].body);
        api_estimate(&c);
        cr_expect_eq(c.reply.status, cases[i].status, "%s: %d", cases[i].body, c.reply.status);
        cr_expect_str_eq(rig_error(&c, "param"), cases[i].param, "%s", cases[i].body);
        rig_call_clear(&c);
    }
}
