/* server/cli_recsys_rows.c - see cli_recsys_rows.h. */
#include "server/cli_recsys_rows.h"

#include "engine/base/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX = 256 << 20 };

/* Records with our signature; later ones replace earlier ones. */
static enum status read_kept(struct rows *r, const char *path, struct err *err)
{
    struct buf text = BUF_INIT;
    r->kept = json_object();
    if (!r->kept)
        return err_set(err, ST_NOMEM, "kept rows");
    if (!file_is_regular(path))
        return ST_OK;
    if (file_slurp(path, FILE_MAX, &text, err) != ST_OK)
        return err->code;
    for (size_t at = 0; at < text.n;) {
        size_t n = strcspn(text.p + at, "\n");
        struct err torn = ERR_INIT;
        struct str key, sig;
        json_t *v = NULL;
        if (json_parse((struct str){ text.p + at, n }, path, &v, &torn) == ST_OK &&
            json_get_str(v, "key", true, &key, &torn) == ST_OK &&
            json_get_str(v, "sig", true, &sig, &torn) == ST_OK && str_eq(sig, str_c(r->sig)) &&
            json_object_set(r->kept, key.p, v) != 0)
            err_set(err, ST_NOMEM, "kept rows");
        json_free(v);
        at += n + 1;
    }
    buf_clear(&text);
    return err->code;
}

enum status rows_open(struct rows *r, const char *path, uint64_t sig, uint32_t n_user,
                      struct err *err)
{
    *r = (struct rows){ .n_user = n_user };
    snprintf(r->sig, sizeof r->sig, "%016llx", (unsigned long long)sig);
    if (!path)
        return ST_OK;
    if (read_kept(r, path, err) != ST_OK)
        return err->code;
    r->out = fopen(path, "ae");
    if (!r->out) {
        err_sys(err, errno, "open");
        return err_ctx(err, "%s", path);
    }
    fseek(r->out, 0, SEEK_END);
    if (ftell(r->out) > 0)
        fputc('\n', r->out); /* the last line may be torn: ours begins anew */
    return ST_OK;
}

void rows_close(struct rows *r)
{
    for (uint32_t i = 0; i < r->n; i++)
        free(r->row[i].user);
    json_free(r->kept);
    if (r->out)
        fclose(r->out);
    *r = (struct rows){ .n = 0 };
}

const json_t *rows_find(const struct rows *r, const char *key)
{
    return r->kept ? json_object_get(r->kept, key) : NULL;
}

enum status rows_keep(struct rows *r, const char *key, json_t *record, struct err *err)
{
    struct buf text = BUF_INIT;
    if (!record)
        return err_set(err, ST_NOMEM, "row '%s'", key);
    json_object_set_new(record, "key", json_text(str_c(key)));
    json_object_set_new(record, "sig", json_text(str_c(r->sig)));
    if (r->out && json_write(record, &text, err) == ST_OK &&
        (fprintf(r->out, "%s\n", text.p) < 0 || fflush(r->out) != 0))
        err_sys(err, errno, "write");
    buf_clear(&text);
    json_free(record);
    return err->code;
}

enum status rows_add(struct rows *r, const struct row *row, struct err *err)
{
    if (r->n == ROWS_MAX)
        return err_set(err, ST_FULL, "at most %d methods in a table", ROWS_MAX);
    struct user_sum *u = malloc((r->n_user + (size_t)1) * sizeof *u);
    if (!u)
        return err_set(err, ST_NOMEM, "row '%s'", row->name);
    memcpy(u, row->user, r->n_user * sizeof *u);
    r->row[r->n] = *row;
    r->row[r->n++].user = u;
    return ST_OK;
}

json_t *rows_users_json(const struct user_sum *u, uint32_t n_user)
{
    json_t *list = json_array();
    for (uint32_t i = 0; list && i < n_user; i++) {
        json_array_append_new(list, json_integer((json_int_t)u[i].n));
        json_array_append_new(list, json_real(u[i].recall20));
        json_array_append_new(list, json_real(u[i].ndcg));
    }
    return list;
}

enum status rows_users(const json_t *list, struct user_sum *ret, uint32_t n_user, struct err *err)
{
    if (json_array_size(list) != 3 * (size_t)n_user)
        return err_set(err, ST_FORMAT, "a kept row has other users: remove its file");
    for (uint32_t i = 0; i < n_user; i++)
        ret[i] = (struct user_sum){
            (uint64_t)json_integer_value(json_array_get(list, 3 * (size_t)i)),
            json_number_value(json_array_get(list, 3 * (size_t)i + 1)),
            json_number_value(json_array_get(list, 3 * (size_t)i + 2)),
        };
    return ST_OK;
}
