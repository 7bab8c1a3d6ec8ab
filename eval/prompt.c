/* eval/prompt.c - see prompt.h. */
#include "engine/base/file.h"
#include "engine/base/hash.h"
#include "eval/prompt_internal.h"

#include <stdlib.h>

struct shot {
    char *question, *solution, *answer;
};

struct prompt {
    char *name, *preamble, *lead, *close;
    struct shot shot[PROMPT_SHOTS_MAX];
    uint32_t n_shot;
    char *stop[PROMPT_STOPS_MAX];
    size_t n_stop;
    char hash[65];
};

static const char lead_default[] = "Let's think step by step.";
static const char close_default[] = "The final answer is {answer}.";
static const char stop_default[] = "\nQ:";

void prompt_free(struct prompt *p)
{
    if (!p)
        return;
    free(p->name);
    free(p->preamble);
    free(p->lead);
    free(p->close);
    for (uint32_t i = 0; i < p->n_shot; i++) {
        free(p->shot[i].question);
        free(p->shot[i].solution);
        free(p->shot[i].answer);
    }
    for (size_t i = 0; i < p->n_stop; i++)
        free(p->stop[i]);
    free(p);
}

static enum status keep(char **slot, struct str s, struct err *err)
{
    *slot = str_dup(s);
    return *slot ? ST_OK : err_set(err, ST_NOMEM, "prompt");
}

/* Many files end a solution with "The answer is N.": `close` says that already. */
static struct str without_answer(struct str s)
{
    static const char *const tails[] = { "The answer is ", "The final answer is ", "#### " };
    s = str_trim(s);
    for (size_t k = 0; k < sizeof tails / sizeof tails[0]; k++) {
        size_t at = SIZE_MAX;
        for (size_t i = 0; (i = str_find(s, str_c(tails[k]), i)) != SIZE_MAX; i++)
            at = i;
        if (at != SIZE_MAX && s.n - at < 80)
            s = str_trim((struct str){ s.p, at });
    }
    return s;
}

static enum status add_shot(struct prompt *p, struct str question, struct str solution,
                            struct str answer, struct err *err)
{
    if (p->n_shot == PROMPT_SHOTS_MAX)
        return err_set(err, ST_FORMAT, "more than %d shots", PROMPT_SHOTS_MAX);
    struct shot *s = &p->shot[p->n_shot++];
    *s = (struct shot){ 0 };
    if (keep(&s->question, str_trim(question), err) == ST_OK &&
        keep(&s->solution, without_answer(solution), err) == ST_OK)
        keep(&s->answer, str_trim(answer), err);
    return err->code;
}

/* ---- files ---- */

/* A string, or a number as text, of either name. */
static enum status answer_of(const json_t *v, char number[32], struct str *ret, struct err *err)
{
    const json_t *a = json_object_get(v, "answer");
    a = a ? a : json_object_get(v, "result");
    if (json_is_integer(a)) {
        snprintf(number, 32, "%lld", (long long)json_integer_value(a));
        *ret = str_c(number);
    } else if (json_is_string(a)) {
        *ret = (struct str){ json_string_value(a), json_string_length(a) };
    } else {
        return err_set(err, ST_FORMAT, "'answer' must be a string or a whole number");
    }
    return ST_OK;
}

static enum status read_shots(struct prompt *p, const json_t *list, struct err *err)
{
    char number[32];
    struct str q = STR(""), s = q, a = q;
    if (!json_is_array(list))
        return err_set(err, ST_FORMAT, "'shots' must be a list");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);
        if (!json_is_object(v))
            return err_set(err, ST_FORMAT, "shot %zu must be an object", i + 1);
        if (json_get_str(v, "question", true, &q, err) != ST_OK ||
            json_get_str(v, "solution", true, &s, err) != ST_OK ||
            answer_of(v, number, &a, err) != ST_OK || add_shot(p, q, s, a, err) != ST_OK)
            return err_ctx(err, "shot %zu", i + 1);
    }
    return ST_OK;
}

static enum status read_stops(struct prompt *p, const json_t *list, struct err *err)
{
    if (!list)
        return ST_OK;
    if (!json_is_array(list) || json_array_size(list) > PROMPT_STOPS_MAX)
        return err_set(err, ST_FORMAT, "'stop' must be a list of at most %d strings",
                       PROMPT_STOPS_MAX);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);
        if (!json_is_string(v) || json_string_length(v) == 0 || json_string_length(v) > 256)
            return err_set(err, ST_FORMAT, "'stop' holds something else than a short string");
        if (keep(&p->stop[p->n_stop], (struct str){ json_string_value(v), json_string_length(v) },
                 err) != ST_OK)
            return err->code;
        p->n_stop++;
    }
    return ST_OK;
}

static enum status read_doc(struct prompt *p, const json_t *doc, const char *path, struct err *err)
{
    const char *slash = strrchr(path, '/');
    struct str name = str_c(slash ? slash + 1 : path), preamble = STR(""),
               lead = str_c(lead_default), close = str_c(close_default);
    const json_t *stops = json_object_get(doc, "stop");
    if (json_is_array(doc)) {
        if (read_shots(p, doc, err) != ST_OK)
            return err->code;
    } else if (!json_is_object(doc)) {
        return err_set(err, ST_FORMAT, "neither an object nor a list of shots");
    } else if (json_get_str(doc, "name", false, &name, err) != ST_OK ||
               json_get_str(doc, "preamble", false, &preamble, err) != ST_OK ||
               json_get_str(doc, "lead", false, &lead, err) != ST_OK ||
               json_get_str(doc, "close", false, &close, err) != ST_OK ||
               (json_object_get(doc, "shots") &&
                read_shots(p, json_object_get(doc, "shots"), err) != ST_OK)) {
        return err->code;
    }
    if (read_stops(p, stops, err) != ST_OK || keep(&p->name, name, err) != ST_OK ||
        keep(&p->preamble, preamble, err) != ST_OK || keep(&p->lead, lead, err) != ST_OK)
        return err->code;
    return keep(&p->close, close, err);
}

static enum status read_file(struct prompt *p, const char *path, struct err *err)
{
    struct buf text = BUF_INIT;
    json_t *doc = NULL;
    if (file_slurp(path, PROMPT_FILE_MAX, &text, err) == ST_OK &&
        json_parse_unique(buf_view(&text), path, &doc, err) == ST_OK &&
        read_doc(p, doc, path, err) != ST_OK)
        err_ctx(err, "prompt '%.100s'", path);
    json_free(doc);
    buf_clear(&text);
    return err->code;
}

static enum status built_in(struct prompt *p, struct err *err)
{
    for (size_t i = 0; i < 8 && err->code == ST_OK; i++)
        add_shot(p, str_c(prompt_default_shots[i].question),
                 str_c(prompt_default_shots[i].solution), str_c(prompt_default_shots[i].answer),
                 err);
    if (err->code != ST_OK || keep(&p->name, str_c(prompt_default_name), err) != ST_OK ||
        keep(&p->preamble, str_c(prompt_default_preamble), err) != ST_OK ||
        keep(&p->lead, str_c(lead_default), err) != ST_OK)
        return err->code;
    return keep(&p->close, str_c(close_default), err);
}

static void hash_text(struct sha256 *h, const char *z)
{
    sha256_add(h, z ? z : "", (z ? strlen(z) : 0) + 1);
}

static void make_hash(struct prompt *p)
{
    struct sha256 h;
    sha256_init(&h);
    hash_text(&h, p->preamble);
    hash_text(&h, p->lead);
    hash_text(&h, p->close);
    for (uint32_t i = 0; i < p->n_shot; i++) {
        hash_text(&h, p->shot[i].question);
        hash_text(&h, p->shot[i].solution);
        hash_text(&h, p->shot[i].answer);
    }
    for (size_t i = 0; i < p->n_stop; i++)
        hash_text(&h, p->stop[i]);
    sha256_hex(&h, p->hash);
}

enum status prompt_open(const char *path, struct prompt **ret, struct err *err)
{
    struct prompt *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(err, ST_NOMEM, "prompt");
    if (path)
        read_file(p, path, err);
    else
        built_in(p, err);
    if (err->code == ST_OK && p->n_stop == 0 &&
        keep(&p->stop[0], str_c(stop_default), err) == ST_OK)
        p->n_stop = 1;
    if (err->code != ST_OK) {
        prompt_free(p);
        return err->code;
    }
    make_hash(p);
    *ret = p;
    return ST_OK;
}

const char *prompt_name(const struct prompt *p)
{
    return p->name;
}

const char *prompt_hash(const struct prompt *p)
{
    return p->hash;
}

uint32_t prompt_shots(const struct prompt *p)
{
    return p->n_shot;
}

size_t prompt_stops(const struct prompt *p, const char *const **ret)
{
    *ret = (const char *const *)p->stop;
    return p->n_stop;
}

/* ---- rendering ---- */

static void put_close(const struct prompt *p, const struct shot *s, struct buf *out)
{
    const char *slot = strstr(p->close, "{answer}");
    if (!slot) {
        buf_printf(out, "%s %s", p->close, s->answer);
        return;
    }
    buf_put(out, p->close, (size_t)(slot - p->close));
    buf_printf(out, "%s%s", s->answer, slot + strlen("{answer}"));
}

static void put_solution(const struct prompt *p, const struct shot *s, struct buf *out)
{
    if (p->lead[0])
        buf_printf(out, "%s ", p->lead);
    buf_printf(out, "%s ", s->solution);
    put_close(p, s, out);
}

void prompt_prefix(const struct prompt *p, uint32_t n_shot, struct buf *out)
{
    if (p->preamble[0] && n_shot > 0)
        buf_printf(out, "%s\n\n", p->preamble);
    for (uint32_t i = 0; i < n_shot && i < p->n_shot; i++) {
        buf_printf(out, "Q: %s\nA: ", p->shot[i].question);
        put_solution(p, &p->shot[i], out);
        buf_z(out, "\n\n");
    }
}

void prompt_ask(const struct prompt *p, struct str question, struct buf *out)
{
    buf_z(out, "Q: ");
    buf_str(out, question);
    buf_printf(out, "\nA:%s%s", p->lead[0] ? " " : "", p->lead);
}

static void put_turn(struct buf *out, const char *role, struct str text)
{
    buf_printf(out, "{\"role\":\"%s\",\"content\":", role);
    json_quote(out, text);
    buf_z(out, "},");
}

void prompt_chat_prefix(const struct prompt *p, uint32_t n_shot, struct buf *out)
{
    struct buf text = BUF_INIT;
    buf_char(out, '[');
    if (p->preamble[0] && n_shot > 0)
        put_turn(out, "system", str_c(p->preamble));
    for (uint32_t i = 0; i < n_shot && i < p->n_shot; i++) {
        buf_reset(&text);
        put_solution(p, &p->shot[i], &text);
        put_turn(out, "user", str_c(p->shot[i].question));
        put_turn(out, "assistant", buf_view(&text));
    }
    buf_z(out, "{\"role\":\"user\",\"content\":");
    out->failed |= text.failed;
    buf_clear(&text);
}

void prompt_chat_ask(const struct prompt *p, struct str question, struct buf *out)
{
    json_quote(out, question);
}
