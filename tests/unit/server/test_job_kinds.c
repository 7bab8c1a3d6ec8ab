/* tests/unit/server/test_job_kinds.c - what settings may name on the disk. */
#include "server/job_kinds.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];

static void touch(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "we");
    cr_assert_not_null(f);
    fclose(f);
}

static void setup(void)
{
    char path[128];
    snprintf(dir, sizeof dir, "/tmp/strobe-kinds-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/sub", dir);
    mkdir(path, 0700);
    touch("text.txt");
    touch("sub/more.txt");
    snprintf(path, sizeof path, "%s/out", dir);
    cr_assert_eq(symlink("/etc", path), 0);
}

static void teardown(void)
{
    static const char *const names[] = { "text.txt", "sub/more.txt", "sub", "out", "" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        remove(path);
    }
}

TestSuite(job_kinds, .init = setup, .fini = teardown);

/* Without a check of its own: here the paths are looked at. */
static const struct job_kind *any_kind(void)
{
    static const char *const paths[] = { "data", "held_out", NULL };
    static const struct job_kind k = { .name = "any", .verb = "train", .paths = paths };
    return &k;
}

static enum status resolve(const char *text, bool anywhere, json_t **ret, char param[JOB_PARAM_MAX],
                           struct err *err)
{
    json_t *v = NULL;
    struct err none = ERR_INIT;
    cr_assert_eq(json_parse(str_c(text), "test", &v, &none), ST_OK, "%s", none.msg);
    enum status st = job_config(any_kind(), v, dir, anywhere, ret, param, err);
    json_free(v);
    return st;
}

Test(job_kinds, relative_names_start_in_the_data_directory)
{
    static const char *const names[] = { "text.txt", "sub/more.txt", "sub", "sub/../text.txt" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char text[160], param[JOB_PARAM_MAX];
        struct err err = ERR_INIT;
        json_t *v = NULL;
        snprintf(text, sizeof text, "{\"data\":\"%s\",\"steps\":3,\"tied\":true,\"x\":[1,\"y\"]}",
                 names[i]);
        cr_assert_eq(resolve(text, false, &v, param, &err), ST_OK, "%s", err.msg);
        const char *got = json_string_value(json_object_get(v, "data"));
        cr_expect(got[0] == '/' && strncmp(got, dir, strlen(dir)) == 0, "%s", got);
        cr_expect_eq(json_integer_value(json_object_get(v, "steps")), 3);
        cr_expect_eq(json_array_size(json_object_get(v, "x")), 2u);
        json_free(v);
    }
}

Test(job_kinds, what_lies_outside_is_refused_in_the_same_words_whether_it_exists_or_not)
{
    static const struct {
        const char *value, *param;
    } cases[] = {
        { "{\"data\":\"/etc/passwd\"}", "data" },
        { "{\"data\":\"/etc/nothing\"}", "data" },
        { "{\"data\":\"../../etc/passwd\"}", "data" },
        { "{\"data\":\"out/passwd\"}", "data" },
        { "{\"data\":\"../../etc/nothing\"}", "data" },
        { "{\"held_out\":\"/\"}", "held_out" },
        { "{\"data\":[\"text.txt\",\"/etc/passwd\"]}", "data" },
    };
    char first[ERR_MSG_MAX] = "";
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char param[JOB_PARAM_MAX];
        struct err err = ERR_INIT;
        json_t *v = NULL;
        cr_expect_eq(resolve(cases[i].value, false, &v, param, &err), ST_ARG, "%s", cases[i].value);
        cr_expect_str_eq(param, cases[i].param, "%s", cases[i].value);
        cr_expect_null(strstr(err.msg, "passwd"), "%s", err.msg);
        if (!first[0])
            snprintf(first, sizeof first, "%s", err.msg);
        if (strcmp(param, "data") == 0)
            cr_expect_str_eq(err.msg, first, "%s", cases[i].value);
    }
}

Test(job_kinds, allow_paths_lifts_that)
{
    char param[JOB_PARAM_MAX];
    struct err err = ERR_INIT;
    json_t *v = NULL;
    cr_assert_eq(
        resolve("{\"data\":\"/etc/passwd\",\"held_out\":\"text.txt\"}", true, &v, param, &err),
        ST_OK, "%s", err.msg);
    cr_expect_str_eq(json_string_value(json_object_get(v, "data")), "/etc/passwd");
    json_free(v);
}

Test(job_kinds, settings_that_are_not_for_clients_are_refused_by_name)
{
    static const struct {
        const char *text, *param;
    } cases[] = {
        { "{\"out\":\"x\"}", "out" },
        { "{\"resume\":\"x\"}", "resume" },
        { "{\"steps\":3,\"act\":\"/etc/passwd\"}", "act" },
        { "{\"data\":\"text.txt\\u0000x\"}", "data" },
        { "{\"data\":\"absent.txt\"}", "data" },
        { "{\"shape\":{\"data\":\"/etc/passwd\"}}", "shape" },
        { "{\"x\":[[1]]}", "x" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char param[JOB_PARAM_MAX];
        struct err err = ERR_INIT;
        json_t *v = NULL;
        cr_expect_eq(resolve(cases[i].text, false, &v, param, &err), ST_ARG, "%s", cases[i].text);
        cr_expect_str_eq(param, cases[i].param, "%s: %s", cases[i].text, err.msg);
        cr_expect(strstr(err.msg, cases[i].param), "%s", err.msg);
    }
}

/* The check behind the paths: that of the trainer itself. */
Test(job_kinds, settings_of_a_training_are_checked_by_name)
{
    static const struct {
        const char *text, *param; /* param NULL: fine; "": none alone */
    } cases[] = {
        { "{\"data\":\"text.txt\",\"steps\":3,\"n_vocab\":256}", NULL },
        { "{\"data\":\"text.txt\",\"steps\":3,\"n_vocab\":256,\"held-out\":\"sub/more.txt\"}",
          NULL },
        { "{\"data\":\"text.txt\",\"step\":3}", "step" },
        { "{\"data\":\"text.txt\",\"steps\":-1}", "steps" },
        { "{\"data\":\"text.txt\",\"steps\":\"many\"}", "steps" },
        { "{\"data\":\"text.txt\",\"steps\":3,\"act\":\"tanh\"}", "act" },
        { "{\"data\":\"text.txt\",\"steps\":3,\"n_vocab\":256,\"n_kv_head\":3}", "n_head" },
        { "{\"data\":\"text.txt\",\"steps\":3,\"n_vocab\":256,\"d_head\":33}", "d_head" },
        { "{\"data\":\"text.txt\",\"steps\":3,\"tokens\":3}", "steps" },
        { "{\"data\":\"text.txt\"}", "steps" },
        { "{\"steps\":3}", "data" },
    };
    size_t n;
    const struct job_kind *pretrain = job_kinds(&n);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char param[JOB_PARAM_MAX];
        struct err err = ERR_INIT, none = ERR_INIT;
        json_t *v = NULL, *got = NULL;
        cr_assert_eq(json_parse(str_c(cases[i].text), "test", &v, &none), ST_OK);
        enum status st = job_config(pretrain, v, dir, false, &got, param, &err);
        cr_expect((st == ST_OK) == !cases[i].param, "%s: %s", cases[i].text, err.msg);
        if (cases[i].param)
            cr_expect_str_eq(param, cases[i].param, "%s: %s", cases[i].text, err.msg);
        json_free(got);
        json_free(v);
    }
}
