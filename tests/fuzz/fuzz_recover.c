/* tests/fuzz/fuzz_recover.c - any bytes as a generated row's question against two public-style
 * templates: what matches satisfies the template's conditions. */
#include "eval/recover.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char templates[] =
    "[{\"id_shuffled\":1,\"question\":\"\",\"answer\":\"#### 1\",\"question_annotated\":\"{n, Ann} "
    "has "
    "{a,2} pears and {b,3} figs. {n, Ann} buys {f,half} of {t,10}. How many?\\n#init:\\n- n = "
    "sample(names)\\n- $a = range(1, 50)\\n- $b = range(1, 50)\\n- $f = sample(fractions)\\n- $t = "
    "range(2, 60)\\n- $x = range(1, 100)\\n#conditions:\\n- a + b == x\\n- is_int(f*t)\\n#answer: "
    "x\",\"answer_annotated\":\"{a}+{b}={x}\\n#### {int(x + "
    "f*t)}\"},{\"id_shuffled\":2,\"question\":"
    "\"\",\"answer\":\"#### 1\",\"question_annotated\":\"{a,x}{b,y}{a,x}\\n#init:\\n- a, b = "
    "sample([\\\"p\\\",\\\"pq\\\",\\\"q\\\"], 2)\\n#answer: 1\",\"answer_annotated\":\"#### "
    "{1}\"}]";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct pools *pools;
    static struct library l;
    struct err err = ERR_INIT;
    if (!pools) {
        if (pools_open(NULL, &pools, &err) != ST_OK ||
            library_add_text(&l, str_c(templates), "fuzz", 0, pools, &err) != ST_OK)
            return 0;
        assert(l.n == 2 && l.entry[0].t && l.entry[1].t);
    }
    if (n > 2000)
        return 0;
    for (size_t i = 0; i < l.n; i++) {
        const struct template *t = l.entry[i].t;
        struct mem mem = { .cap = 4 << 20 };
        struct draw d;
        if (recover(t, 0, (struct str){ (const char *)data, n }, &mem, &d, &err))
            for (uint32_t c = 0; c < t->n_cond; c++) {
                struct expr_run run = { .var = d.val, .n_var = t->n_var, .mem = &mem };
                struct value v;
                bool ok = expr_eval(t->cond[c].expr, &run, &v);
                assert(ok && value_true(&v));
            }
        mem_clear(&mem);
    }
    return 0;
}
