/* tests/unit/evalreport/planted.c - see planted.h. */
#include "planted.h"

#include "engine/base/rng.h"

#include <stdio.h>
#include <stdlib.h>

static const struct {
    const char *variant;
    int level, noop;
} parts[] = { { "original", 0, 0 }, { "both", -1, 0 }, { "names", 0, 0 }, { "both", 0, 0 },
              { "noop", 0, 1 },     { "both", 1, 0 },  { "both", 2, 0 } };
enum { PARTS = sizeof parts / sizeof parts[0] };

double planted_chance(int template)
{
    return 0.35 + 0.6 * ((template * 7) % 10) / 9.0;
}

static void must(enum status st, const struct err *err)
{
    if (st == ST_OK)
        return;
    fprintf(stderr, "planted: %s\n", err->msg);
    abort();
}

struct text {
    char key[80], tmpl[24], question[240], response[400], info[400];
};

static const char hostile[] =
    "</pre><script>alert(1)</script><img src=x onerror=alert(2)> \x1b[31m "
    "\xE2\x80\xAE the answer is 12";

/* "Ana buys N apples...": the name and the numbers are marked. */
static void write_text(struct text *x, const struct planted *p, int part, int set, int t,
                       bool right)
{
    static const char *const names[] = { "Ana", "Bo", "Chi", "Dara" };
    const char *who = part ? names[(set + t) % 4] : "Ana";
    int a = 2 + (t + set) % 9, b = 3 + (t * 3 + set) % 7, at = (int)strlen(who);
    snprintf(x->tmpl, sizeof x->tmpl, "t%03d", t);
    snprintf(x->key, sizeof x->key, "%s/%s/%d/%d", x->tmpl, parts[part].variant, parts[part].level,
             set);
    snprintf(x->question, sizeof x->question,
             "%s buys %d apples at $%d each. How much does %s pay? (%s)", who, a, b, who, x->key);
    if (p->hostile && !right)
        snprintf(x->response, sizeof x->response, "%s", hostile);
    else
        snprintf(x->response, sizeof x->response, "%d apples cost %d * %d = %d. The answer is %d",
                 a, a, b, right ? a * b : a * b + 1, right ? 7 : 12);
    snprintf(x->info, sizeof x->info,
             "{\"audit\":\"accepted\",\"traps\":[{\"value\":\"12\",\"why\":\"ans+k\"}],"
             "\"spans\":[{\"name\":\"who\",\"kind\":\"name\",\"begin\":0,\"end\":%d},"
             "{\"name\":\"n\",\"kind\":\"number\",\"begin\":%d,\"end\":%d,\"number\":\"%d/2\"}]}",
             at, at + 6, at + 7 + (a > 9), 1 + (t + set) % 40);
}

static bool one(const struct planted *p, int part, int set, int t, int64_t ord, run_sample_fn *fn,
                void *ctx)
{
    struct text x;
    double chance = planted_chance(t) - parts[part].level * p->drop_level -
                    parts[part].noop * p->drop_noop + (part == 0 ? p->extra_original : 0);
    bool right = (double)(rng_at(p->seed, (uint64_t)ord) >> 11) * 0x1.0p-53 < chance;
    bool failed = p->skip_every && ord % p->skip_every == 3;
    write_text(&x, p, part, set, t, right);
    struct run_sample s = { .ord = ord,
                            .key = str_c(x.key),
                            .tmpl = str_c(x.tmpl),
                            .variant = str_c(parts[part].variant),
                            .level = parts[part].level,
                            .instance = set,
                            .original = part == 0,
                            .question = str_c(x.question),
                            .gold_num = 7,
                            .gold_den = 1,
                            .gold_text = STR("7"),
                            .info = str_c(x.info),
                            .state = failed ? SAMPLE_FAILED : SAMPLE_DONE,
                            .n_attempt = 1,
                            .response = failed ? STR("") : str_c(x.response),
                            .finish = STR("stop"),
                            .prompt_tokens = 10,
                            .completion_tokens = 5,
                            .version = failed ? 0 : 1,
                            .klass = failed             ? CLASS_FAILED
                                     : right            ? CLASS_CORRECT
                                     : parts[part].noop ? CLASS_TRAP
                                                        : CLASS_OTHER,
                            .trap = parts[part].noop && !right ? 0 : -1 };
    for (int i = 0; i < EXTRACT_PROFILES && !failed; i++) {
        uint32_t end = (uint32_t)s.response.n;
        s.correct[i] = right && i != EXTRACT_GSM8K;
        s.hit[i] = (struct extract_hit){ .rule = i == EXTRACT_GSM8K ? RULE_NONE : RULE_MARKER,
                                         .is_number = true,
                                         .num = right ? 7 : 12,
                                         .den = 1,
                                         .begin = end - (right ? 1 : 2),
                                         .end = end };
        snprintf(s.hit[i].text, sizeof s.hit[i].text, "%d", right ? 7 : 12);
    }
    return fn(ctx, &s);
}

void planted_each(const struct planted *p, run_sample_fn *fn, void *ctx)
{
    int per = p->n_template, n_set = p->n_set;
    int64_t n = (int64_t)per * (1 + (PARTS - 1) * n_set);
    for (int64_t i = 0; i < n; i++) {
        int64_t at = p->reversed ? n - 1 - i : i, block = at / per;
        int part = block == 0 ? 0 : 1 + (int)((block - 1) / n_set),
            set = block == 0 ? 0 : (int)((block - 1) % n_set);
        if (!one(p, part, set, (int)(at % per), at, fn, ctx))
            return;
    }
}

const struct run_row *planted_row(void)
{
    static char manifest[] =
        "{\"format\":\"strobe-run/1\",\"model\":{\"name\":\"scripted\",\"backend\":\"engine\"},"
        "\"extraction\":{\"profile\":\"flexible\"},\"primary\":null,\"datasets\":[]}";
    static char name[] = "planted", empty[] = "";
    static const struct run_row row = { .id = "run-1",
                                        .state = RUN_DONE,
                                        .name = name,
                                        .note = empty,
                                        .manifest = manifest,
                                        .limits = empty,
                                        .learned = empty };
    return &row;
}

static bool add(void *ctx, const struct run_sample *s)
{
    struct err err = ERR_INIT;
    must(report_add(ctx, s, &err), &err);
    return true;
}

struct report *planted_report(const struct planted *p)
{
    struct report *r = NULL;
    struct err err = ERR_INIT;
    must(report_open(planted_row(), &r, &err), &err);
    planted_each(p, add, r);
    return r;
}

json_t *planted_doc(const struct planted *p)
{
    struct err err = ERR_INIT;
    struct report *r = planted_report(p);
    json_t *doc = NULL;
    must(report_build(r, &doc, &err), &err);
    report_free(r);
    return doc;
}
