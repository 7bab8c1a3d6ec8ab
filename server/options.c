/* server/options.c - see options.h. */
#include "server/options.h"

#include "engine/base/nearest.h"
#include "engine/base/num.h"

#include <string.h>

static const struct opt *find_long(const struct opt_table *t, struct str name)
{
    for (size_t i = 0; i < t->n; i++)
        if (str_is(name, t->opt[i].name))
            return &t->opt[i];
    return NULL;
}

static const struct opt *find_letter(const struct opt_table *t, char letter)
{
    for (size_t i = 0; i < t->n; i++)
        if (t->opt[i].letter == letter)
            return &t->opt[i];
    return NULL;
}

static enum status add_str(struct opt_strs *list, const char *name, const char *value,
                           struct err *err)
{
    if (list->n == OPT_STRS_MAX)
        return err_set(err, ST_RANGE, "--%s: at most %d may be given", name, OPT_STRS_MAX);
    list->v[list->n++] = value;
    return ST_OK;
}

static enum status size_value(const struct opt *o, const char *what, struct str s, struct err *err)
{
    uint64_t bytes;
    if (num_size(s, what, &bytes, err) != ST_OK)
        return err->code;
    if ((double)bytes < o->min)
        return err_set(err, ST_RANGE, "%s: %.*s is below the least, %.0f bytes", what, (int)s.n,
                       s.p, o->min);
    *(uint64_t *)o->dst = bytes;
    return ST_OK;
}

static enum status store(const struct opt *o, const char *value, struct err *err)
{
    char what[64];
    snprintf(what, sizeof what, "--%s", o->name);
    struct str s = str_c(value);
    switch (o->kind) {
    case OPT_FLAG:
        *(bool *)o->dst = true;
        return ST_OK;
    case OPT_STR:
        *(const char **)o->dst = value;
        return ST_OK;
    case OPT_STRS:
        return add_str(o->dst, o->name, value, err);
    case OPT_COUNT:
        return num_u64(s, what, (uint64_t)o->min, (uint64_t)o->max, o->dst, err);
    case OPT_REAL:
        return num_f64(s, what, o->min, o->max, o->dst, err);
    case OPT_SIZE:
        return size_value(o, what, s, err);
    }
    return ST_OK;
}

static enum status unknown(const struct opt_table *t, const char *word, struct err *err)
{
    size_t n = strcspn(word, "=");
    struct nearest near = NEAREST_INIT(n > 2 ? ((struct str){ word + 2, n - 2 }) : STR(""));
    for (size_t i = 0; word[1] == '-' && i < t->n; i++)
        nearest_offer(&near, t->opt[i].name);
    const char *meant = nearest_word(&near);
    if (meant)
        return err_set(err, ST_ARG, "unknown option '%s'; did you mean '--%s'? (--help lists all)",
                       word, meant);
    return err_set(err, ST_ARG, "unknown option '%s' (--help lists them)", word);
}

/* One option word at argv[*i]; advances *i past its value. */
static enum status take_option(const struct opt_table *t, int argc, char **argv, int *i,
                               struct err *err)
{
    const char *word = argv[*i];
    const char *value = NULL;
    const struct opt *o;
    if (word[1] == '-') {
        const char *eq = strchr(word, '=');
        o = find_long(t, (struct str){ word + 2, eq ? (size_t)(eq - word - 2) : strlen(word + 2) });
        value = eq ? eq + 1 : NULL;
    } else {
        o = word[2] == '\0' ? find_letter(t, word[1]) : NULL;
    }
    if (!o)
        return unknown(t, word, err);
    if (o->kind == OPT_FLAG)
        return value ? err_set(err, ST_ARG, "--%s takes no value", o->name) : store(o, NULL, err);
    if (!value) {
        if (*i + 1 >= argc)
            return err_set(err, ST_ARG, "--%s needs a value (%s)", o->name, o->value);
        value = argv[++*i];
    }
    return store(o, value, err);
}

/* A lone "-" means standard input; "-3" and the like are words, not options. */
static bool is_option(const char *word)
{
    return word[0] == '-' && word[1] != '\0' && !(word[1] >= '0' && word[1] <= '9');
}

enum status opt_parse(const struct opt_table *t, int argc, char **argv, const char **rest,
                      size_t rest_max, size_t *n_rest, struct err *err)
{
    bool options = true;
    *n_rest = 0;
    for (int i = 0; i < argc; i++) {
        if (options && strcmp(argv[i], "--") == 0) {
            options = false;
        } else if (options && is_option(argv[i])) {
            if (take_option(t, argc, argv, &i, err) != ST_OK)
                return err->code;
        } else if (*n_rest == rest_max) {
            return err_set(err, ST_ARG, "unexpected word '%s'", argv[i]);
        } else {
            rest[(*n_rest)++] = argv[i];
        }
    }
    return ST_OK;
}

void opt_help(const struct opt_table *t, FILE *out)
{
    fprintf(out, "usage: %s\n\n%s\n\noptions:\n", t->usage, t->about);
    for (size_t i = 0; i < t->n; i++) {
        const struct opt *o = &t->opt[i];
        char left[64];
        snprintf(left, sizeof left, "%s%c%s --%s %s", o->letter ? "-" : " ",
                 o->letter ? o->letter : ' ', o->letter ? "," : " ", o->name,
                 o->value ? o->value : "");
        fprintf(out, "  %-28s %s\n", left, o->help);
    }
}
