/* engine/infer/session.h - one slot: the tokens whose keys and values it holds, and the request
 * that uses it now, if any. Positions 0..n_kept-1 of the slot's cache belong to token[0..n_kept-1];
 * they stay after a request ends, so that the next one with the same beginning need not compute it
 * again. Owner: the engine thread (req is written under the scheduler's lock). Internal to infer.
 */
#ifndef STROBE_INFER_SESSION_H
#define STROBE_INFER_SESSION_H

#include "engine/infer/draft.h"
#include "engine/infer/request.h"

struct kv;

struct session {
    uint32_t slot;
    int32_t *token;        /* [n_ctx + 1], borrowed from the scheduler; drafts lie behind n_token */
    uint32_t n_token;      /* prompt and generated; n_token == n_prompt: still in the prompt */
    uint32_t n_kept;       /* tokens whose keys and values are stored */
    uint64_t used;         /* when it was last used, by the scheduler's count; 0: never */
    struct request *req;   /* NULL: free */
    struct duo_policy duo; /* by which the kept keys and values were made */
    int32_t draft[DRAFT_MAX]; /* of the pass in progress, behind token[n_token - 1] */
    uint32_t n_draft;
    uint32_t n_want; /* guesses that a drafter shall make for the pass; 0: none */
    enum draft_source source;
    struct draft_luck luck[DRAFT_SOURCES];
};

/* Tokens that the request's prompt and the kept tokens have in common at the start, at most
 * `limit`; none where the kept ones took other ways through a Duo model. */
uint32_t session_match(const struct session *s, const struct request *r, uint32_t limit);
/* The free session for a request, NULL: none is free. *n_reuse: how many of its prompt tokens are
 * in that slot's cache on return (copied there from another slot where that saves enough work). The
 * last prompt token is never among them: its logits are wanted. */
struct session *session_choose(struct session *all, uint32_t n, struct kv *kv,
                               const struct request *r, uint32_t *n_reuse);

#endif
