/* tests/unit/base/test_file.c - whole files and folders. */
#include "engine/base/file.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[FILE_PATH_MAX];

static void make_dir(void)
{
    snprintf(dir, sizeof dir, "/tmp/strobe-file-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
}

static void remove_dir(void)
{
    struct err err = ERR_INIT;
    cr_expect_eq(file_remove_tree(dir, &err), ST_OK, "%s", err.msg);
}

TestSuite(file, .init = make_dir, .fini = remove_dir);

static const char *in(const char *name)
{
    static char path[FILE_PATH_MAX];
    snprintf(path, sizeof path, "%.200s/%.3800s", dir, name);
    return path;
}

Test(file, what_was_replaced_is_read_back_and_no_temporary_file_stays)
{
    struct err err = ERR_INIT;
    struct buf got = BUF_INIT;
    for (int i = 0; i < 2; i++) {
        struct str text = i ? STR("second, longer") : STR("first\n");
        cr_assert_eq(file_replace(in("a"), text, &err), ST_OK, "%s", err.msg);
        buf_reset(&got);
        cr_assert_eq(file_slurp(in("a"), 100, &got, &err), ST_OK, "%s", err.msg);
        cr_expect(str_eq(buf_view(&got), text), "%s", got.p);
    }
    cr_expect(access(in("a.tmp"), F_OK) != 0);
    buf_clear(&got);
}

Test(file, a_replacement_that_cannot_be_written_leaves_the_old_file)
{
    struct err err = ERR_INIT;
    struct buf got = BUF_INIT;
    cr_assert_eq(file_replace(in("a"), STR("old"), &err), ST_OK);
    cr_assert_eq(mkdir(in("a.tmp"), 0755), 0); /* the temporary file cannot be opened */
    cr_expect_eq(file_replace(in("a"), STR("new"), &err), ST_IO);
    cr_expect_not_null(strstr(err.msg, "a.tmp"), "%s", err.msg);
    err_clear(&err);
    cr_assert_eq(file_slurp(in("a"), 100, &got, &err), ST_OK);
    cr_expect_str_eq(got.p, "old");
    buf_clear(&got);
}

Test(file, a_link_stays_and_what_it_leads_to_is_replaced)
{
    struct err err = ERR_INIT;
    struct buf got = BUF_INIT;
    char target[FILE_PATH_MAX];
    struct stat st;
    cr_assert_eq(file_replace(in("far"), STR("old"), &err), ST_OK);
    cr_assert_eq(symlink("far", in("link")), 0);
    cr_assert_eq(file_target(in("link"), target, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(strcmp(strrchr(target, '/'), "/far"), 0, "%s", target);
    cr_assert_eq(file_replace(in("link"), STR("new"), &err), ST_OK, "%s", err.msg);
    cr_expect(lstat(in("link"), &st) == 0 && S_ISLNK(st.st_mode));
    cr_assert_eq(file_slurp(in("far"), 100, &got, &err), ST_OK);
    cr_expect_str_eq(got.p, "new");
    cr_assert_eq(file_target(in("none"), target, &err), ST_OK, "%s", err.msg);
    cr_expect_str_eq(target, in("none"));
    buf_clear(&got);
}

Test(file, a_link_that_leads_to_nothing_yet_gets_its_file_there)
{
    struct err err = ERR_INIT;
    struct buf got = BUF_INIT;
    char target[FILE_PATH_MAX];
    struct stat st;
    cr_assert_eq(file_make_dirs(in("there"), 0755, &err), ST_OK);
    cr_assert_eq(symlink("there/link", in("first")), 0);
    cr_assert_eq(symlink("nothing", in("there/link")), 0);
    cr_assert_eq(file_target(in("first"), target, &err), ST_OK, "%s", err.msg);
    cr_expect_str_eq(target, in("there/nothing"));
    cr_assert_eq(file_replace(in("first"), STR("new"), &err), ST_OK, "%s", err.msg);
    cr_expect(lstat(in("first"), &st) == 0 && S_ISLNK(st.st_mode));
    cr_expect(lstat(in("there/link"), &st) == 0 && S_ISLNK(st.st_mode));
    cr_assert_eq(file_slurp(in("there/nothing"), 100, &got, &err), ST_OK, "%s", err.msg);
    cr_expect_str_eq(got.p, "new");
    file_path(target, &err, "%s", in("there/whole"));
    cr_assert_eq(symlink(target, in("absolute")), 0);
    cr_assert_eq(file_target(in("absolute"), target, &err), ST_OK, "%s", err.msg);
    cr_expect_str_eq(target, in("there/whole"));
    cr_assert_eq(symlink("circle", in("circle")), 0);
    cr_expect_eq(file_replace(in("circle"), STR("new"), &err), ST_IO);
    cr_expect(lstat(in("circle"), &st) == 0 && S_ISLNK(st.st_mode));
    buf_clear(&got);
}

Test(file, a_pipe_that_nobody_reads_is_not_waited_for_for_ever)
{
    struct err err = ERR_INIT;
    cr_assert_eq(mkfifo(in("unread"), 0600), 0);
    cr_expect_eq(file_replace(in("unread"), STR("new"), &err), ST_IO);
    cr_expect_not_null(strstr(err.msg, "nobody reads the pipe"), "%s", err.msg);
}

Test(file, a_pipe_is_written_and_no_file_takes_its_place)
{
    struct err err = ERR_INIT;
    char target[FILE_PATH_MAX], bytes[4] = "";
    struct stat st;
    cr_assert_eq(mkfifo(in("pipe"), 0600), 0);
    int fd = open(in("pipe"), O_RDWR); /* both ends: nobody waits */
    cr_assert_eq(file_replace(in("pipe"), STR("new"), &err), ST_OK, "%s", err.msg);
    cr_expect_eq(read(fd, bytes, 3), 3);
    cr_expect_str_eq(bytes, "new");
    cr_expect(lstat(in("pipe"), &st) == 0 && S_ISFIFO(st.st_mode));
    cr_expect_eq(file_target(in("pipe"), target, &err), ST_ARG);
    cr_expect_not_null(strstr(err.msg, "device or pipe"), "%s", err.msg);
    err_clear(&err);
    cr_assert_eq(file_make_dirs(in("folder"), 0755, &err), ST_OK);
    cr_expect_eq(file_replace(in("folder"), STR("new"), &err), ST_ARG);
    cr_expect_not_null(strstr(err.msg, "a folder"), "%s", err.msg);
    err_clear(&err);
    cr_expect_eq(file_target("", target, &err), ST_ARG);
    close(fd);
}

Test(file, longer_files_than_allowed_are_refused)
{
    struct err err = ERR_INIT;
    struct buf got = BUF_INIT;
    cr_assert_eq(file_replace(in("a"), STR("12345"), &err), ST_OK);
    cr_expect_eq(file_slurp(in("a"), 5, &got, &err), ST_OK);
    cr_expect_eq(file_slurp(in("a"), 4, &got, &err), ST_RANGE);
    err_clear(&err);
    cr_expect_eq(file_slurp("/dev/zero", 1000, &got, &err), ST_RANGE);
    err_clear(&err);
    cr_expect_eq(file_slurp(in("none"), 4, &got, &err), ST_NOTFOUND);
    buf_clear(&got);
}

Test(file, reading_past_the_end_is_a_malformed_file)
{
    struct err err = ERR_INIT;
    char bytes[8];
    cr_assert_eq(file_replace(in("a"), STR("1234"), &err), ST_OK);
    int fd = open(in("a"), O_RDONLY);
    cr_expect_eq(file_read(fd, bytes, 4, "a", &err), ST_OK);
    cr_expect_eq(file_read(fd, bytes, 1, "a", &err), ST_FORMAT);
    close(fd);
}

Test(file, a_pipe_is_read_to_its_end_and_not_beyond_what_is_allowed)
{
    for (size_t max = 5; max >= 4; max--) {
        struct err err = ERR_INIT;
        struct buf got = BUF_INIT;
        int end[2];
        cr_assert_eq(pipe(end), 0);
        buf_z(&got, "before ");
        cr_assert_eq(file_write(end[1], "12345", 5, "pipe", &err), ST_OK, "%s", err.msg);
        close(end[1]);
        cr_expect_eq(file_slurp_fd(end[0], "pipe", max, &got, &err), max < 5 ? ST_RANGE : ST_OK);
        cr_expect_str_eq(got.p, "before 12345");
        close(end[0]);
        buf_clear(&got);
    }
}

Test(file, folders_are_made_with_those_above_them)
{
    struct err err = ERR_INIT;
    cr_expect_eq(file_make_dirs(in("x/y/z"), 0755, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(file_make_dirs(in("x/y/z"), 0755, &err), ST_OK, "%s", err.msg);
    cr_expect(file_is_dir(in("x/y/z")));
    cr_assert_eq(file_replace(in("f"), STR(""), &err), ST_OK);
    cr_expect_eq(file_make_dirs(in("f/y"), 0755, &err), ST_IO);
    err_clear(&err);
    cr_expect_eq(file_make_dirs("", 0755, &err), ST_ARG);
}

Test(file, removing_a_folder_spares_what_its_links_point_at)
{
    struct err err = ERR_INIT;
    char target[FILE_PATH_MAX];
    cr_assert_eq(file_make_dirs(in("keep"), 0755, &err), ST_OK);
    cr_assert_eq(file_replace(in("keep/a"), STR("x"), &err), ST_OK);
    snprintf(target, sizeof target, "%s", in("keep"));
    cr_assert_eq(file_make_dirs(in("gone/deep"), 0755, &err), ST_OK);
    cr_assert_eq(symlink(target, in("gone/deep/link")), 0);
    cr_expect_eq(file_remove_tree(in("gone"), &err), ST_OK, "%s", err.msg);
    cr_expect(!file_is_dir(in("gone")));
    cr_expect(file_is_regular(in("keep/a")));
    cr_expect_eq(file_remove_tree(in("gone"), &err), ST_OK, "absent is fine: %s", err.msg);
}

Test(file, a_path_that_does_not_fit_is_refused_and_named)
{
    struct err err = ERR_INIT;
    char out[FILE_PATH_MAX], *longer = calloc(FILE_PATH_MAX + 1, 1);
    memset(longer, 'a', FILE_PATH_MAX);
    cr_expect_eq(file_path(out, &err, "%s", longer), ST_RANGE);
    cr_expect_not_null(strstr(err.msg, "aaaa"));
    longer[FILE_PATH_MAX - 1] = '\0';
    err_clear(&err);
    cr_expect_eq(file_path(out, &err, "%s", longer), ST_OK);
    free(longer);
}
