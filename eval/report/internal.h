/* eval/report/internal.h - what the files of eval/report share. */
#ifndef STROBE_EVAL_REPORT_INTERNAL_H
#define STROBE_EVAL_REPORT_INTERNAL_H

#include "eval/report/report.h"
#include "eval/stat/cells.h"
#include "eval/stat/paired.h"

enum { CONDITIONS_MAX = 64, TEMPLATES_MAX = 8192, LEVEL_95 = 95 };
#define REPORT_LEVEL 0.95 /* of all intervals */
#define REPORT_ALPHA 0.05

/* An answer, small: a run has thousands. */
struct answer {
    uint32_t tmpl, cond;
    int32_t set, repeat;
    uint16_t right; /* bit per profile */
    uint8_t klass;
    bool scored, original, truncated, unparsed, empty;
    bool accepted; /* its distractor was audited */
    int32_t trap;
    double log_number, words; /* covariates: mean log10 of the numbers, words; NaN: not known */
    uint64_t key;             /* hash of template, condition, set and question's gold */
};

struct condition {
    char variant[32];
    int64_t level;
};

struct report {
    char id[RUN_ID_MAX];
    char *name, *state;
    json_t *manifest;
    enum extract_profile profile;
    struct answer *answer;
    size_t n, cap;
    char **tmpl;
    size_t n_tmpl, cap_tmpl, last_tmpl;
    struct condition cond[CONDITIONS_MAX];
    size_t n_cond;
    json_t *failures; /* samples that are quoted */
    size_t n_failure[SAMPLE_CLASSES];
    int64_t repeats, /* answers that are not the first to their question */
        most;        /* answers to one question */
    int64_t prompt_tokens, cached_tokens, completion_tokens, attempts, failed, pending;
    bool sorted;
};

/* One condition's answers by template and set, without the originals. */
struct table {
    int8_t *x; /* [n_tmpl * n_set] */
    /* Where the run has repeats, else NULL: the part of a question's answers that is right, and how
     * many are; -1: not all of `most` are scored. */
    double *share;
    int32_t *right;
    struct tally *tally;
    size_t n_tmpl, n_set;
};
static inline struct cells table_cells(const struct table *t)
{
    return (struct cells){ t->x, t->n_tmpl, t->n_set, t->share };
}

/* One question's answers, which stand one behind another. */
struct question {
    size_t n; /* answers */
    uint32_t scored, right;
    bool first; /* the first that is scored is right */
};
struct question report_question(const struct report *r, size_t at, enum extract_profile p);
static inline double question_share(struct question q)
{
    return (double)q.right / q.scored;
}

/* Templates by id, conditions by level and variant, renumbered: done once, before building. */
enum status report_sort(struct report *r, struct err *err);
enum status table_make(const struct report *r, size_t cond, enum extract_profile p,
                       struct table *ret, struct err *err);
void table_free(struct table *t);
/* Each template's original question: [n_tmpl], n_set is 1. */
enum status report_originals(const struct report *r, enum extract_profile p, struct table *ret,
                             struct err *err);
/* Is the condition only originals? */
bool condition_is_original(const struct condition *c);
/* Is it one of the condition's own answers? The original of a generated condition is not. */
bool report_belongs(const struct report *r, const struct answer *a, size_t cond);
/* Index of a condition, or SIZE_MAX. */
size_t condition_find(const struct report *r, const char *variant, int64_t level);
bool report_is_right(const struct report *r, const struct answer *a);

/* Both take x; what is lost for want of memory is noted in err. */
static inline void put(json_t *obj, const char *key, json_t *x, struct err *err)
{
    if (json_object_set_new(obj, key, x) != 0)
        err_set(err, ST_NOMEM, "report");
}
static inline void add(json_t *list, json_t *x, struct err *err)
{
    if (json_array_append_new(list, x) != 0)
        err_set(err, ST_NOMEM, "report");
}
json_t *json_num(double v); /* null when it is no number */
json_t *json_interval(struct interval v);
json_t *condition_json(const struct condition *c); /* {variant, level} */
json_t *paired_json(const struct paired *p);
json_t *equivalence_json(struct equivalence e);

/* ---- regress.c: log-odds of a right original against a generated answer; NULL: failed ---- */
/* With a random intercept per template. */
json_t *report_mixed(const struct report *r, size_t cond, struct err *err);
/* With the size of the numbers and the length of the question held fixed. JSON null: not known. */
json_t *report_adjusted(const struct report *r, size_t cond, struct err *err);

/* What the item's JSON says; NULL: nothing that can be read. Short of memory is an error. */
json_t *report_info(struct str text, struct err *err);
/* Sections of the document; NULL and err: failed. */
json_t *report_conditions(struct report *r, struct err *err);
json_t *report_contrasts(struct report *r, struct err *err);
json_t *report_levels(struct report *r, struct err *err);
json_t *report_heat(struct report *r, struct err *err);
json_t *report_noop(struct report *r, struct err *err);

/* ---- svg ---- */
struct svg_bar {
    const char *label;
    double value, low, high; /* low, high NaN: no whisker */
    bool marked;
};
/* Escaped for text and attributes; control characters become U+FFFD. */
void html_text(struct buf *out, struct str s);
void html_z(struct buf *out, const char *z);
void svg_histogram(struct buf *out, const json_t *cond, double original);
void svg_bars(struct buf *out, const struct svg_bar *bar, size_t n, const char *title, bool points);
void svg_heat(struct buf *out, const json_t *heat);

#endif
