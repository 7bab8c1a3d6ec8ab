/* tests/unit/train/test_net.c - what the network promises besides right derivatives: bits that do
 * not depend on threads, causality, documents, hooks, learning. */
#include "engine/kernel/gemm.h"
#include "tests/unit/train/rig.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Wide enough that products have several tiles and passes several tasks. */
static struct net_shape wide_shape(void)
{
    struct net_shape s = rig_shape();
    s.n_vocab = 700;
    s.n_ctx = 150;
    s.d_model = 200;
    s.d_head = 20;
    s.d_ff = 1700;
    s.bias = true;
    s.norm = NET_LAYER;
    return s;
}

static real *copy_of(const real *p, size_t n)
{
    real *q = malloc(n * sizeof *q);
    cr_assert_not_null(q);
    memcpy(q, p, n * sizeof *q);
    return q;
}

static real *grads_with(struct net_opts o, unsigned n_thread, double *loss)
{
    struct err err = ERR_INIT;
    struct net_rig r;
    if (n_thread)
        cr_assert_eq(pool_create(n_thread, &o.pool, &err), ST_OK);
    rig_open(&r, &o, 9, true);
    *loss = rig_grad(&r);
    real *g = copy_of(net_grads(r.n), r.n_param);
    rig_close(&r);
    pool_free(o.pool);
    return g;
}

Test(net, any_number_of_threads_and_recomputing_give_the_same_bits, .timeout = 600)
{
    struct net_shape s = wide_shape();
    for (int form = 0; form < 3; form++) {
        struct net_opts o = { .shape = s, .batch = 3, .n_tok = 90 };
        double loss, again;
        o.attn = form == 1 ? NET_ATTN_NAIVE : NET_ATTN_TILED;
        o.vocab_chunk = form == 2 ? 300 : 0;
        real *first = grads_with(o, 0, &loss);
        for (unsigned n_thread = 1; n_thread <= 3; n_thread++) {
            o.recompute = n_thread == 3;
            real *g = grads_with(o, n_thread, &again);
            cr_expect(loss == again, "form %d, %u threads: loss %.17g, not %.17g", form, n_thread,
                      again, loss);
            cr_expect(memcmp(first, g, net_n_param(&s) * sizeof *g) == 0, "form %d, %u threads",
                      form, n_thread);
            free(g);
        }
        free(first);
    }
}

static void logits_of(struct net_rig *r, real *out)
{
    net_logits(r->n, &r->b, out);
}

Test(net, a_token_changes_nothing_before_it)
{
    enum { T = 7, V = 13 };
    for (int form = 0; form < 8; form++) {
        struct net_shape s = rig_shape();
        struct net_rig r;
        real before[2 * T * V], after[2 * T * V];
        s.pos = form & 1 ? NET_LEARNED : NET_ROPE;
        s.norm = form & 1 ? NET_LAYER : NET_RMS;
        struct net_opts o = rig_opts(&s);
        o.attn = form & 2 ? NET_ATTN_NAIVE : NET_ATTN_TILED;
        rig_open(&r, &o, 11, form & 4);
        for (int t = 1; t < T; t++) {
            logits_of(&r, before);
            r.token[t] = (r.token[t] + 1) % V;
            logits_of(&r, after);
            cr_expect(memcmp(before, after, (size_t)t * V * sizeof *before) == 0,
                      "form %d: token %d is seen before", form, t);
            cr_expect(memcmp(before + t * V, after + t * V, V * sizeof *before) != 0,
                      "form %d: token %d is not seen at all", form, t);
            cr_expect(memcmp(before + T * V, after + T * V, T * V * sizeof *before) == 0,
                      "form %d: token %d is seen in the next sequence", form, t);
        }
        rig_close(&r);
    }
}

/* A document in the middle of a row gets the logits that it gets alone; both computed in sums of
 * another length, of values of the order of 1: 1e-4 is far above rounding, far below any effect. */
Test(net, documents_do_not_see_each_other_and_count_from_their_start)
{
    enum { T = 7, V = 13, FROM = 3 };
    for (int form = 0; form < 4; form++) {
        struct net_shape s = rig_shape();
        struct net_rig r;
        real whole[2 * T * V], alone[2 * T * V];
        s.pos = form & 1 ? NET_LEARNED : NET_ROPE;
        struct net_opts o = rig_opts(&s);
        o.attn = form & 2 ? NET_ATTN_NAIVE : NET_ATTN_TILED;
        rig_open(&r, &o, 12, true);
        for (int t = 0; t < 2 * T; t++)
            r.doc[t] = t % T >= FROM ? 5 : 2;
        logits_of(&r, whole);
        r.token[FROM - 1] = (r.token[FROM - 1] + 1) % V;
        logits_of(&r, alone);
        cr_expect(memcmp(whole + FROM * V, alone + FROM * V, (T - FROM) * V * sizeof *whole) == 0,
                  "form %d: the first document leaks", form);
        struct net_batch b = { .rows = 1, .cols = T - FROM, .token = r.token + FROM };
        net_logits(r.n, &b, alone);
        for (int i = 0; i < (T - FROM) * V; i++)
            cr_expect_float_eq(whole[FROM * V + i], alone[i], 1e-4f, "form %d, logit %d", form, i);
        rig_close(&r);
    }
}

Test(net, a_batch_smaller_than_planned_is_as_in_a_network_of_its_size)
{
    enum { T = 5, V = 13 };
    struct net_shape s = rig_shape();
    struct net_opts o = rig_opts(&s), small = o;
    struct net_rig r, q;
    struct net_loss a, b;
    small.batch = 1;
    small.n_tok = T;
    rig_open(&r, &o, 13, false);
    rig_open(&q, &small, 13, false);
    r.b.rows = 1;
    r.b.cols = T;
    memcpy(r.token, q.token, T * sizeof *q.token);
    memcpy(r.target, q.target, T * sizeof *q.target);
    memcpy(r.weight, q.weight, T * sizeof *q.weight);
    memcpy(net_params(q.n), net_params(r.n), r.n_param * sizeof(real));
    net_grad(r.n, &r.b, 1, &a);
    net_grad(q.n, &q.b, 1, &b);
    cr_expect(a.nll == b.nll && a.weight == b.weight);
    cr_expect(memcmp(net_grads(r.n), net_grads(q.n), r.n_param * sizeof(real)) == 0);
    r.b.rows = 0;
    net_grad(r.n, &r.b, 1, &a);
    cr_expect(a.nll == 0 && a.weight == 0);
    rig_close(&r);
    rig_close(&q);
}

Test(net, losses_weights_and_logits_agree)
{
    enum { T = 7, V = 13, N = 2 * T };
    struct net_shape s = rig_shape();
    struct net_opts o = rig_opts(&s);
    struct net_rig r;
    struct net_loss l;
    float each[N];
    real logits[N * V];
    double nll = 0, weight = 0;
    rig_open(&r, &o, 14, false);
    net_eval(r.n, &r.b, each, &l);
    net_logits(r.n, &r.b, logits);
    for (int t = 0; t < N; t++) {
        double z = 0;
        for (int v = 0; v < V; v++)
            z += exp((double)logits[t * V + v]);
        double want = r.target[t] < 0 ? 0 : log(z) - (double)logits[t * V + r.target[t]];
        cr_expect_float_eq((double)each[t], want, 1e-5, "token %d", t);
        nll += (double)r.weight[t] * want;
        weight += r.target[t] < 0 ? 0 : (double)r.weight[t];
    }
    cr_expect_float_eq(l.nll, nll, 1e-4);
    cr_expect_float_eq(l.weight, weight, 1e-12);
    for (int t = 0; t < N; t++)
        r.weight[t] = 1;
    net_eval(r.n, &r.b, NULL, &l);
    nll = l.nll;
    r.b.weight = NULL;
    net_eval(r.n, &r.b, NULL, &l);
    cr_expect(l.nll == nll && l.weight == N - 1, "no weights: all 1");
    rig_close(&r);
}

Test(net, a_network_for_evaluation_has_no_gradients_and_the_same_losses)
{
    struct net_shape s = rig_shape();
    struct net_opts o = rig_opts(&s), infer = o;
    struct net_rig r, q;
    struct net_bytes a, b;
    struct err err = ERR_INIT;
    infer.infer = true;
    rig_open(&r, &o, 15, true);
    rig_open(&q, &infer, 15, true);
    cr_expect_null(net_grads(q.n));
    cr_expect(rig_loss(&r) == rig_loss(&q));
    cr_assert(net_plan(&o, &a, &err) == ST_OK && net_plan(&infer, &b, &err) == ST_OK);
    cr_expect(b.grads == 0 && b.activations < a.activations && b.params == a.params);
    rig_close(&r);
    rig_close(&q);
}

Test(net, gradients_add_up_over_calls_and_scale)
{
    struct net_shape s = rig_shape();
    struct net_opts o = rig_opts(&s);
    struct net_rig r;
    struct net_loss l;
    rig_open(&r, &o, 16, false);
    net_grad(r.n, &r.b, 1, &l);
    real *once = copy_of(net_grads(r.n), r.n_param);
    net_grad(r.n, &r.b, 2, &l);
    double size = 0;
    for (uint64_t i = 0; i < r.n_param; i++)
        size = fmax(size, fabs((double)once[i]));
    for (uint64_t i = 0; i < r.n_param; i++)
        cr_assert_float_eq((double)net_grads(r.n)[i], 3 * (double)once[i], 1e-5 * size);
    free(once);
    rig_close(&r);
}

struct finals {
    struct net *n;
    uint64_t next; /* the end of what is not reported yet */
    real *seen;    /* gradients as they were when they were called final */
    unsigned calls;
};

static void on_final(void *user, uint64_t from, uint64_t to)
{
    struct finals *f = user;
    cr_expect_eq(to, f->next, "from the end to the front, without a gap");
    cr_expect_lt(from, to);
    memcpy(f->seen + from, net_grads(f->n) + from, (to - from) * sizeof(real));
    f->next = from;
    f->calls++;
}

Test(net, gradients_are_reported_once_and_final)
{
    for (int form = 0; form < 8; form++) {
        struct net_shape s = rig_shape();
        struct net_rig r;
        struct net_loss l;
        s.tied = form & 1;
        s.norm = form & 2 ? NET_LAYER : NET_RMS;
        s.pos = form & 4 ? NET_LEARNED : NET_ROPE;
        struct net_opts o = rig_opts(&s);
        rig_open(&r, &o, 17, false);
        struct finals f = { .n = r.n, .next = r.n_param };
        f.seen = calloc(r.n_param, sizeof(real));
        cr_assert_not_null(f.seen);
        net_on_grad(r.n, on_final, &f);
        net_grad(r.n, &r.b, 1, &l);
        cr_expect_eq(f.next, 0u);
        cr_expect_eq(f.calls, s.tied ? 4u : 5u);
        cr_expect(memcmp(f.seen, net_grads(r.n), r.n_param * sizeof(real)) == 0,
                  "a reported gradient changed later");
        free(f.seen);
        rig_close(&r);
    }
}

struct watch {
    uint32_t next;
    size_t n_active;
    bool gated;
};

static void on_ffn(void *user, uint32_t layer, size_t n_tok, const real *pre, const real *act)
{
    struct watch *w = user;
    cr_expect_eq(layer, w->next++);
    cr_expect_eq(n_tok, 14u);
    for (size_t i = 0; i < n_tok * 14; i++) {
        cr_expect(!(pre[i] <= 0.1f) || act[i] == 0, "%zu: a closed neuron acts", i);
        cr_expect(w->gated || !(pre[i] > 0.1f) || act[i] == pre[i] - 0.1f, "%zu", i);
        w->n_active += act[i] != 0;
    }
}

Test(net, the_ffn_is_observed_once_per_layer_and_forward_pass)
{
    for (int form = 0; form < 4; form++) {
        struct net_shape s = rig_shape();
        struct net_rig r;
        struct watch w = { .gated = form & 1 };
        s.act = NET_RELU;
        s.act_shift = (double)0.1f;
        s.gated = form & 1;
        s.bias = true;
        struct net_opts o = rig_opts(&s);
        o.recompute = form & 2;
        rig_open(&r, &o, 18, false);
        net_on_ffn(r.n, on_ffn, &w);
        rig_loss(&r);
        cr_expect_eq(w.next, 2u);
        w.next = 0;
        rig_grad(&r);
        cr_expect_eq(w.next, 2u);
        cr_expect(w.n_active > 100 && w.n_active < 600, "%zu", w.n_active);
        rig_close(&r);
    }
}

struct stopping {
    bool stop;
    int ffns, grads, ffns_most, grads_most; /* stops in this many calls */
};

static void stop_in_ffn(void *user, uint32_t layer, size_t n_tok, const real *pre, const real *act)
{
    struct stopping *s = user;
    (void)layer;
    (void)n_tok;
    (void)pre;
    (void)act;
    s->stop |= ++s->ffns == s->ffns_most;
}

static void stop_in_grad(void *user, uint64_t from, uint64_t to)
{
    struct stopping *s = user;
    (void)from;
    (void)to;
    s->stop |= ++s->grads == s->grads_most;
}

static bool goes_on(void *user)
{
    return !((struct stopping *)user)->stop;
}

/* Untied: gradients come for head, norm, two layers, embedding. */
Test(net, a_gradient_that_is_told_to_stop_ends_before_its_next_layer)
{
    static const struct stopping cases[] = {
        { .stop = true },
        { .ffns_most = 1 },
        { .grads_most = 3 },
    };
    static const int want[][2] = { { 0, 0 }, { 1, 0 }, { 2, 3 } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct stopping w = cases[i];
        struct net_shape s = rig_shape();
        struct net_rig r;
        struct net_loss l;
        s.tied = false;
        struct net_opts o = rig_opts(&s);
        rig_open(&r, &o, 17, false);
        net_on_layer(r.n, goes_on, &w);
        net_on_ffn(r.n, stop_in_ffn, &w);
        net_on_grad(r.n, stop_in_grad, &w);
        net_grad(r.n, &r.b, 1, &l);
        cr_expect(w.ffns == want[i][0] && w.grads == want[i][1], "case %zu: %d layers, %d parts", i,
                  w.ffns, w.grads);
        w.ffns = 0;
        net_on_layer(r.n, NULL, NULL);
        net_eval(r.n, &r.b, NULL, &l);
        cr_expect(w.ffns == 2 && l.weight > 0, "the next pass is whole");
        rig_close(&r);
    }
}

/* Adam (Kingma and Ba 2015) with bias correction. */
static void adam_step(struct net_rig *r, real *m, real *v, int step)
{
    real *p = net_params(r->n), *g = net_grads(r->n);
    real c1 = 1 - (real)pow(0.9, step), c2 = 1 - (real)pow(0.99, step);
    for (uint64_t i = 0; i < r->n_param; i++) {
        m[i] = 0.9f * m[i] + 0.1f * g[i];
        v[i] = 0.99f * v[i] + 0.01f * g[i] * g[i];
        p[i] -= 0.01f * (m[i] / c1) / (sqrtf(v[i] / c2) + 1e-8f);
    }
}

Test(net, learns_one_batch_by_heart)
{
    for (int act = NET_SILU; act <= NET_FATRELU; act++) {
        struct net_shape s = rig_shape();
        struct net_rig r;
        double loss = 9;
        int step = 0;
        s.d_model = 32;
        s.d_ff = 64;
        s.act = (enum net_act)act;
        s.gated = act % 2 == 0;
        s.norm = act % 2 ? NET_LAYER : NET_RMS;
        s.pos = act % 2 ? NET_LEARNED : NET_ROPE;
        s.bias = act % 2;
        struct net_opts o = rig_opts(&s);
        rig_open(&r, &o, 19, false);
        net_init(r.n, 1);
        for (int t = 0; t < 14; t++) /* no contradiction: the first tokens differ */
            r.token[t] = t % 7 ? r.token[t] : t / 7;
        real *m = calloc(r.n_param, sizeof *m), *v = calloc(r.n_param, sizeof *v);
        cr_assert(m && v);
        while (loss >= 0.01 && step < 400) {
            loss = rig_grad(&r);
            adam_step(&r, m, v, ++step);
        }
        cr_expect_lt(loss, 0.01, "activation %d: %g after %d steps", act, loss, step);
        free(m);
        free(v);
        rig_close(&r);
    }
}

Test(net, initialisation_depends_on_seed_and_name_only)
{
    struct net_shape s = wide_shape(), deep = s;
    struct net_opts o = { .shape = s, .batch = 1, .n_tok = 1, .infer = true };
    struct net *a, *b;
    struct err err = ERR_INIT;
    struct net_tensor t[40];
    double sum = 0;
    deep.n_layer = 3;
    cr_assert_eq(net_create(&o, &a, &err), ST_OK);
    o.shape = deep;
    cr_assert_eq(net_create(&o, &b, &err), ST_OK);
    cr_assert_leq(net_n_tensor(&s), 40u);
    net_tensors(&s, t);
    net_init(a, 7);
    net_init(b, 7);
    for (uint32_t i = 0; i < net_n_tensor(&s); i++) {
        uint64_t n = (uint64_t)t[i].rows * t[i].cols;
        const real *p = net_params(a) + t[i].at;
        if (t[i].at >= net_n_param(&s) - 2 * s.d_model) /* moved by a layer */
            continue;
        bool scaled = strstr(t[i].name, "attn_output.w") || strstr(t[i].name, "ffn_down.w");
        bool same = memcmp(p, net_params(b) + t[i].at, n * sizeof *p) == 0;
        cr_expect_eq(same, !scaled, "%s", t[i].name);
        if (strcmp(t[i].name, "blk.1.ffn_down.weight") == 0) {
            for (uint64_t j = 0; j < n; j++)
                sum += (double)p[j] * (double)p[j];
            /* the deviation of 340,000 squares' mean is 0.25 %: four of them */
            cr_expect_float_eq(sum / (double)n, 0.02 * 0.02 / 4, 0.01 * 0.02 * 0.02 / 4);
        }
    }
    net_init(b, 8);
    cr_expect(memcmp(net_params(a), net_params(b), 1000 * sizeof(real)) != 0);
    cr_expect_float_eq(net_params(a)[net_n_param(&s) - 2 * s.d_model], 1.0f, 0);
    cr_expect_float_eq(net_params(a)[net_n_param(&s) - 1], 0.0f, 0);
    net_free(a);
    net_free(b);
}

Test(net, a_number_that_is_none_shows_in_the_loss)
{
    struct net_shape s = rig_shape();
    struct net_opts o = rig_opts(&s);
    struct net_rig r;
    rig_open(&r, &o, 20, false);
    net_params(r.n)[(size_t)s.n_vocab * s.d_model + 15] = NAN;
    cr_expect(isnan(rig_grad(&r)));
    rig_close(&r);
}
