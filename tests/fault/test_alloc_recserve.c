/* tests/fault/test_alloc_recserve.c - events taken, a user folded in, questions answered, a model
 * changed and tables written when memory is out. */
#include "engine/base/file.h"
#include "recsys/archive.h"
#include "recsys/recsys.h"
#include "recsys/wal.h"
#include "tests/fault/nth.h"
#include "tests/support/rs_toy.h"
#include "tests/support/tmp.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#define NOW INT64_C(1700100000000)

static const char text[] = "user\titem\ttime\nu0\ti1\t1700000000\nu0\ti2\t1700001000\n"
                           "u1\ti1\t1700002000\nu0\ti1\t1699990000\nnew\ti3\t1700003000\n"
                           "new\tother\t1700004000\nu2\ti4\t1700005000\n";

static enum status take(struct served *l, struct err *err)
{
    struct batch b;
    struct served_result res;
    uint32_t map[32];
    batch_init(&b, BATCH_EVENTS);
    if (batch_parse(&b, BATCH_TSV, str_c(text), NOW, err) == ST_OK &&
        served_names(l, &b, map, map + 16, err) == ST_OK)
        served_apply(l, &b, map, map + 16, &res, err);
    batch_clear(&b);
    return err->code;
}

static enum status use(struct served *l, unsigned terms, struct err *err)
{
    struct gen *g = NULL;
    fault_pause(); /* the toy ends the program when it has no memory */
    struct rmodel *m = toy_rmodel(terms, 3, 6, 4, 1);
    fault_resume();
    if (gen_create(l, m, "m", &g, err) == ST_OK)
        gen_publish(l, g);
    return err->code;
}

static enum status ask(struct served *l, struct buf *out, struct err *err)
{
    struct gen *g = gen_hold(l);
    static const char *const who[] = { "u0", "new", "nobody" };
    for (size_t i = 0; i < 3 && err->code == ST_OK; i++) {
        struct query q = {
            .user = served_find_user(l, str_c(who[i])), .at = NOW, .n = 4, .explain = true
        };
        struct query_answer a = { 0 };
        if (q.user != IDS_NONE && query_fold(l, g, q.user, err) != ST_OK)
            break;
        query_recommend(l, g, &q, &a, err);
        for (uint32_t k = 0; k < a.n; k++)
            buf_printf(out, "%.9g ", a.item[k].rate);
        query_clear(&a);
    }
    gen_drop(g);
    return err->code == ST_OK ? buf_ok(out, "answer", err) : err->code;
}

static enum status serve(void *ctx, void **ret, struct err *err)
{
    static struct buf out;
    struct served *l = NULL;
    buf_clear(&out);
    if (served_create(&l, err) == ST_OK && use(l, *(unsigned *)ctx, err) == ST_OK &&
        take(l, err) == ST_OK && ask(l, &out, err) == ST_OK &&
        use(l, *(unsigned *)ctx, err) == ST_OK && ask(l, &out, err) == ST_OK)
        *ret = &out;
    else
        buf_clear(&out);
    served_free(l);
    return err->code;
}

static void print_text(void *ctx, void *made, struct buf *out)
{
    (void)ctx;
    buf_str(out, buf_view(made));
}

static void drop_text(void *made)
{
    buf_clear(made);
}

Test(alloc_recserve, serving_without_memory_says_so)
{
    static unsigned terms[] = { RT_GAMMA_RATES | RT_SELF | RT_ITEMS,
                                RT_GAMMA_RATES | RT_SELF | RT_SOCIAL };
    for (size_t i = 0; i < sizeof terms / sizeof terms[0]; i++)
        nth_alloc(&(struct nth_op){ .name = "serve",
                                    .ctx = &terms[i],
                                    .run = serve,
                                    .print = print_text,
                                    .drop = drop_text });
}

/* ---- tables ---- */

static enum status put_name(void *ctx, bool item, struct str name, struct err *err)
{
    return served_name(ctx, item, name, err);
}

static enum status put_event(void *ctx, uint32_t user, const struct served_event *e,
                             struct err *err)
{
    return served_put(ctx, user, e, err);
}

static enum status put_follow(void *ctx, uint32_t user, uint32_t whom, struct err *err)
{
    return served_follow(ctx, user, whom, err);
}

static enum status put_key(void *ctx, const char *key, uint64_t hash,
                           const struct served_result *res, size_t n_reject, struct err *err)
{
    (void)ctx;
    (void)key;
    (void)hash;
    (void)res;
    (void)n_reject;
    return err->code;
}

static char dir[FILE_PATH_MAX];

static enum status keep(void *ctx, void **ret, struct err *err)
{
    static uint64_t events;
    char path[FILE_PATH_MAX + 16];
    struct archive_opts o = { .dir = dir, .log = "a" };
    struct archive *a = NULL;
    struct served *l = NULL;
    struct archive_counts c;
    struct batch b;
    (void)ctx;
    for (int i = 0; i < 3; i++) {
        static const char *const end[] = { "", "-wal", "-shm" };
        snprintf(path, sizeof path, "%.900s/recsys.db%s", dir, end[i]);
        remove(path);
    }
    batch_init(&b, BATCH_EVENTS);
    snprintf(b.key, sizeof b.key, "k");
    if (batch_parse(&b, BATCH_TSV, str_c(text), NOW, err) == ST_OK &&
        archive_open(&o, &a, err) == ST_OK && archive_begin(a, err) == ST_OK) {
        archive_batch(a, &b, err);
        archive_commit(a, (struct wal_pos){ 1, 100 }, err);
        struct archive_sink s = { NULL, put_name, put_event, put_follow, put_key };
        if (err->code == ST_OK && served_create(&l, err) == ST_OK) {
            s.ctx = l;
            if (archive_load(a, &s, &c, err) == ST_OK) {
                events = l->counts.events;
                *ret = &events;
            }
        }
    }
    served_free(l);
    archive_close(a);
    batch_clear(&b);
    return err->code;
}

static void print_count(void *ctx, void *made, struct buf *out)
{
    (void)ctx;
    buf_printf(out, "%llu", (unsigned long long)*(uint64_t *)made);
}

Test(alloc_recserve, tables_without_memory_say_so)
{
    cr_assert(tmp_make(dir));
    nth_alloc(&(struct nth_op){ .name = "keep", .run = keep, .print = print_count, .all = 60 });
    tmp_remove(dir);
}

static enum status skip_record(void *ctx, struct str record, struct err *err)
{
    (void)record;
    (void)err;
    ++*(unsigned *)ctx;
    return ST_OK;
}

/* Damage asks for a backup; a disk that fails asks for a disk. */
Test(alloc_recserve, a_log_that_cannot_be_read_now_is_not_called_damaged)
{
    char folder[FILE_PATH_MAX];
    struct err err = ERR_INIT;
    struct wal *w = NULL;
    unsigned n = 0;
    cr_assert(tmp_make(folder));
    struct wal_opts o = { .dir = folder, .replay = skip_record, .ctx = &n };
    cr_assert_eq(wal_open(&o, &w, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(wal_append(w, STR("one"), &err), ST_OK);
    cr_assert_eq(wal_append(w, STR("two"), &err), ST_OK);
    cr_assert_eq(wal_commit(w, &err), ST_OK, "%s", err.msg);
    static const struct {
        enum fault fault;
        enum status st;
        const char *says;
    } what[] = { { FAULT_READ, ST_IO, "Input/output error" },
                 { FAULT_END, ST_FORMAT, "damaged" },
                 { FAULT_INTR, ST_OK, "" },
                 { FAULT_SHORT, ST_OK, "" } };
    for (size_t k = 0; k < sizeof what / sizeof what[0]; k++)
        for (uint64_t nth = 1; nth <= 4; nth++) { /* a length and a record, twice */
            struct wal_pos at = { .segment = 0 };
            err_clear(&err);
            n = 0;
            fault_arm(what[k].fault, nth, false);
            wal_read(folder, &at, wal_end(w), UINT64_MAX, skip_record, &n, &err);
            fault_disarm();
            cr_expect_eq(fault_hits(), 1u);
            cr_expect_eq(err.code, what[k].st, "%s", err.msg);
            cr_expect(strstr(err.msg, what[k].says), "'%s'", err.msg);
            cr_expect_eq(n, what[k].st == ST_OK ? 2u : (unsigned)(nth - 1) / 2);
        }
    wal_close(w);
    tmp_remove(folder);
}
