/* engine/infer/session.c - see session.h. */
#include "engine/infer/session.h"

#include "engine/infer/kv.h"

#include <string.h>

uint32_t session_match(const struct session *s, const struct request *r, uint32_t limit)
{
    if (!duo_policy_same(&s->duo, &r->p.duo))
        return 0;
    const int32_t *prompt = r->prompt;
    uint32_t n = 0, max = s->n_kept < limit ? s->n_kept : limit;
    while (n < max && s->token[n] == prompt[n])
        n++;
    return n;
}

static struct session *least_recent_free(struct session *all, uint32_t n)
{
    struct session *best = NULL;
    for (uint32_t i = 0; i < n; i++)
        if (!all[i].req && (!best || all[i].used < best->used))
            best = &all[i];
    return best;
}

/* The slot that shares most with the prompt, a free one on ties. */
static struct session *best_source(struct session *all, uint32_t n, const struct request *r,
                                   uint32_t limit, uint32_t *n_shared)
{
    struct session *best = NULL;
    *n_shared = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t m = session_match(&all[i], r, limit);
        if (m > *n_shared || (m && m == *n_shared && best->req && !all[i].req)) {
            best = &all[i];
            *n_shared = m;
        }
    }
    return best;
}

struct session *session_choose(struct session *all, uint32_t n, struct kv *kv,
                               const struct request *r, uint32_t *n_reuse)
{
    struct session *to = least_recent_free(all, n);
    if (!to)
        return NULL;
    /* Scoring wants the logits of every prompt position: nothing to reuse. */
    uint32_t limit = r->p.cache_prompt && !r->p.prompt_logprobs ? r->n_prompt - 1 : 0, n_shared;
    struct session *from = best_source(all, n, r, limit, &n_shared);
    /* Going on in place drops what the slot keeps beyond the shared part: only when that is the
     * smaller part. A short common beginning must not cost another conversation its cache. */
    if (from && !from->req && (from == to || 2 * (uint64_t)n_shared >= from->n_kept)) {
        *n_reuse = n_shared;
        return from;
    }
    uint32_t own = session_match(to, r, limit);
    if (from && n_shared > own) { /* copying a token's rows is far cheaper than computing them */
        kv_copy(kv, from->slot, to->slot, n_shared);
        memcpy(to->token, from->token, n_shared * sizeof *to->token);
        own = n_shared;
    }
    *n_reuse = own;
    return to;
}
