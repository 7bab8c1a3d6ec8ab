/* tests/unit/evalreport/planted_dump.c - a planted run for the browser tests, which serve it in
 * place of the server's answers. planted_dump report|compare|samples|html [hostile] */
#include "planted.h"

#include <stdio.h>
#include <stdlib.h>

static bool line(void *ctx, const struct run_sample *s)
{
    struct buf b = BUF_INIT;
    struct err err = ERR_INIT;
    if (report_json_sample(s, EXTRACT_FLEXIBLE, &b, &err) != ST_OK)
        abort();
    printf("%s\n", b.p);
    buf_clear(&b);
    return true;
}

static void print(json_t *doc)
{
    struct buf b = BUF_INIT;
    struct err err = ERR_INIT;
    if (json_write(doc, &b, &err) != ST_OK)
        abort();
    printf("%s\n", b.p);
    buf_clear(&b);
}

int main(int argc, char **argv)
{
    struct planted p = { .n_template = 60,
                         .n_set = 20,
                         .drop_noop = 0.2,
                         .drop_level = 0.1,
                         .seed = 5,
                         .hostile = argc > 2 && !strcmp(argv[2], "hostile") };
    const char *what = argc > 1 ? argv[1] : "";
    json_t *doc = NULL;
    struct err err = ERR_INIT;
    if (!strcmp(what, "samples")) {
        planted_each(&p, line, NULL);
    } else if (!strcmp(what, "compare")) {
        struct planted q = p;
        q.drop_noop = 0.02;
        struct report *a = planted_report(&p), *b = planted_report(&q);
        if (report_compare(a, b, &doc, &err) != ST_OK)
            abort();
        print(doc);
        report_free(a);
        report_free(b);
    } else if (!strcmp(what, "html")) {
        struct buf b = BUF_INIT;
        doc = planted_doc(&p);
        if (report_html(doc, &b, &err) != ST_OK)
            abort();
        fwrite(b.p, 1, b.n, stdout);
        buf_clear(&b);
    } else if (!strcmp(what, "report")) {
        print(doc = planted_doc(&p));
    } else {
        fprintf(stderr, "usage: planted_dump report|compare|samples|html [hostile]\n");
        return 2;
    }
    json_free(doc);
    return 0;
}
