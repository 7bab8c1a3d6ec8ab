/* eval/check_text.c - what a template's text and its variables say by themselves: numbers that
 * never change, pronouns beside names of both genders, what is never used. See check.h. */
#include "eval/check_internal.h"

static bool digit(char ch)
{
    return ch >= '0' && ch <= '9';
}

void check_constants(struct checking *c)
{
    const struct pieces *q = &c->t->question;
    for (uint32_t i = 0; i < q->n; i++)
        for (size_t k = 0; q->piece[i].var < 0 && k < q->piece[i].text.n; k++)
            if (digit(q->piece[i].text.p[k])) {
                size_t end = k;
                while (end < q->piece[i].text.n && digit(q->piece[i].text.p[end]))
                    end++;
                template_diag(c->t, DIAG_NOTE, "constant-in-text",
                              "'%.*s' is the same in every instance", (int)(end - k),
                              q->piece[i].text.p + k);
                k = end;
            }
}

static bool has_word(struct str s, const char *word)
{
    size_t n = strlen(word);
    for (size_t at = 0; (at = str_find(s, str_c(word), at)) != SIZE_MAX; at++) {
        bool left = at == 0 || !((s.p[at - 1] | 32) >= 'a' && (s.p[at - 1] | 32) <= 'z');
        bool right = at + n >= s.n || !((s.p[at + n] | 32) >= 'a' && (s.p[at + n] | 32) <= 'z');
        if (left && right)
            return true;
    }
    return false;
}

/* A gendered word in the text beside names of both genders. */
void check_pronouns(struct checking *c)
{
    static const char *const words[] = { "he", "she", "his", "her", "him",
                                         "He", "She", "His", "Her", "hers" };
    const struct template *t = c->t;
    const char *found = NULL;
    for (uint32_t i = 0; i < t->question.n && !found; i++)
        for (size_t w = 0; w < sizeof words / sizeof words[0] && !found; w++)
            if (t->question.piece[i].var < 0 && has_word(t->question.piece[i].text, words[w]))
                found = words[w];
    for (uint32_t s = 0; s < t->n_slot && found; s++) {
        bool m = false, f = false;
        for (uint32_t k = 0; k < t->slot[s].n; k++) {
            const struct word *w = t->slot[s].cand[k].word;
            m |= w && w->gender == 'm';
            f |= w && w->gender == 'f';
        }
        if (m && f) {
            template_diag(c->t, DIAG_WARNING, "gendered-pronoun",
                          "'%s' stands in the text, but '%.*s' may be of either gender", found,
                          (int)t->var[t->slot[s].var[0]].name.n, t->var[t->slot[s].var[0]].name.p);
            return;
        }
    }
}

void check_unused(struct checking *c)
{
    bool any[TPL_VARS_MAX] = { false }, used[TPL_VARS_MAX];
    struct template *t = c->t;
    for (int l = LEVEL_MIN; l <= LEVEL_MAX; l++) {
        if (!template_level(t, l)->present)
            continue;
        template_used(t, l, used);
        for (uint32_t i = 0; i < t->n_var; i++)
            any[i] |= used[i];
    }
    for (uint32_t i = 0; i < t->n_cond && !t->public_format; i++) {
        bool seen[TPL_VARS_MAX] = { false };
        expr_vars(t->cond[i].expr, seen);
        for (uint32_t v = 0; v < t->n_var; v++)
            if (seen[v] && !any[v])
                template_diag(t, DIAG_ERROR, "condition-on-unused",
                              "'%.*s' constrains '%.*s', which no level uses",
                              (int)t->cond[i].text.n, t->cond[i].text.p, (int)t->var[v].name.n,
                              t->var[v].name.p);
    }
    for (uint32_t i = 0; i < t->n_var && !t->public_format; i++)
        if (!any[i] && t->var[i].noop < 0 && (int32_t)i != t->ans)
            template_diag(t, DIAG_WARNING, "unused-variable", "'%.*s' is never used",
                          (int)t->var[i].name.n, t->var[i].name.p);
}
