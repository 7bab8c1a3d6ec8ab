/* tests/unit/evalreport/planted.c - see planted.h. */
#include "planted.h"

#include "engine/base/rng.h"

#include <criterion/criterion.h>
#include <stdio.h>

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

static void one(struct report *r, const struct planted *p, int part, int set, int t, int64_t ord)
{
    char key[80], tmpl[24], question[200], response[300], info[160];
    struct err err = ERR_INIT;
    bool original = part == 0;
    double chance = planted_chance(t) - parts[part].level * p->drop_level -
                    parts[part].noop * p->drop_noop + (original ? p->extra_original : 0);
    double u = (double)(rng_at(p->seed, (uint64_t)ord) >> 11) * 0x1.0p-53;
    bool right = u < chance;
    bool failed = p->skip_every && ord % p->skip_every == 3;
    snprintf(tmpl, sizeof tmpl, "t%03d", t);
    snprintf(key, sizeof key, "%s/%s/%d/%d", tmpl, parts[part].variant, parts[part].level, set);
    snprintf(question, sizeof question, "Question %s?", key);
    snprintf(response, sizeof response,
             p->hostile ? "</pre><script>alert(1)</script> \x1b[31m \xE2\x80\xAE 12"
                        : "The answer is %d",
             right ? 7 : 12);
    snprintf(info, sizeof info,
             "{\"numbers\": [%d, \"3/4\", 12], \"words\": %d, \"clause_status\": \"accepted\"}",
             1 + (t + set) % 40, 30 + t % 7);
    struct run_sample s = { .ord = ord,
                            .key = str_c(key),
                            .tmpl = str_c(tmpl),
                            .variant = str_c(parts[part].variant),
                            .level = parts[part].level,
                            .instance = set,
                            .original = original,
                            .question = str_c(question),
                            .gold_num = 7,
                            .gold_den = 1,
                            .gold_text = STR("7"),
                            .info = str_c(info),
                            .state = failed ? SAMPLE_FAILED : SAMPLE_DONE,
                            .n_attempt = 1,
                            .response = str_c(response),
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
        s.correct[i] = right && i != EXTRACT_GSM8K;
        s.hit[i] = (struct extract_hit){
            .rule = RULE_MARKER, .is_number = true, .num = right ? 7 : 12, .den = 1
        };
        snprintf(s.hit[i].text, sizeof s.hit[i].text, "%d", right ? 7 : 12);
    }
    cr_assert_eq(report_add(r, &s, &err), ST_OK, "%s", err.msg);
}

struct report *planted_report(const struct planted *p)
{
    static char manifest[] =
        "{\"format\":\"strobe-run/1\",\"model\":{\"name\":\"scripted\",\"backend\":\"engine\"},"
        "\"extraction\":{\"profile\":\"flexible\"},\"primary\":null,\"datasets\":[]}";
    static char name[] = "planted", empty[] = "";
    struct run_row row = { .id = "run-1",
                           .state = RUN_DONE,
                           .name = name,
                           .note = empty,
                           .manifest = manifest,
                           .limits = empty,
                           .learned = empty };
    struct report *r = NULL;
    struct err err = ERR_INIT;
    cr_assert_eq(report_open(&row, &r, &err), ST_OK, "%s", err.msg);
    int64_t n = 0;
    struct {
        int part, set, t;
    } *all = malloc(sizeof *all * PARTS * (size_t)p->n_set * (size_t)p->n_template);
    for (int part = 0; part < PARTS; part++)
        for (int set = 0; set < (part ? p->n_set : 1); set++)
            for (int t = 0; t < p->n_template; t++) {
                all[n].part = part;
                all[n].set = set;
                all[n++].t = t;
            }
    for (int64_t i = 0; i < n; i++) {
        int64_t at = p->reversed ? n - 1 - i : i;
        one(r, p, all[at].part, all[at].set, all[at].t, at);
    }
    free(all);
    return r;
}

json_t *planted_doc(const struct planted *p)
{
    struct err err = ERR_INIT;
    struct report *r = planted_report(p);
    json_t *doc = NULL;
    cr_assert_eq(report_build(r, &doc, &err), ST_OK, "%s", err.msg);
    report_free(r);
    return doc;
}
