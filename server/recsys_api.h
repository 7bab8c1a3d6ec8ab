/* server/recsys_api.h - what the recommender's API files share: answers as JSON. Numbers are events
 * per hour unless they say otherwise; times are Unix seconds. All append; out of memory is sticky
 * in `out`. */
#ifndef STROBE_SERVER_RECSYS_API_H
#define STROBE_SERVER_RECSYS_API_H

#include "recsys/recsys.h"
#include "server/http.h"

/* Without the closing brace. */
void recsys_write_answer(struct served *l, const struct gen *g, const char *user,
                         const struct query *q, const struct query_answer *a, struct buf *out);
void recsys_write_return(const struct gen *g, const char *user, int64_t at,
                         const struct query_return *r, struct buf *out);
void recsys_write_curve(struct served *l, const char *user, const struct query_curve *c,
                        struct buf *out);
void recsys_write_similar(struct served *l, const char *item, const struct topk_hit *hit,
                          uint32_t n, struct buf *out);
void recsys_write_influence(struct served *l, const char *user, const struct query_influence *in,
                            struct buf *out);
/* Users whose names begin so, with the most events first among those looked at. */
void recsys_write_users(struct served *l, struct str prefix, uint32_t limit, struct buf *out);
void recsys_write_stats(struct recsys *r, struct buf *out);

#endif
