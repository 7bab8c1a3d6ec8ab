/* engine/train/trainer_export.c - the trained model as a file: see trainer_internal.h. */
#include "engine/base/file.h"
#include "engine/train/export.h"
#include "engine/train/trainer_internal.h"

static const char model_file[] = "model.gguf";

/* Can a model be written? why: the reason if not. */
static bool can_export(const struct trainer *t, struct err *why)
{
    const char *arch;
    if (t->config->model_type == MODEL_NONE)
        err_set(why, ST_ARG, "model_type is none");
    else if (!t->data.vocab[0])
        err_set(why, ST_ARG, "the vocabulary is not known (tokenizer is not given)");
    else
        export_arch(net_shape_of(t->net), &arch, why);
    return why->code == ST_OK;
}

void trainer_check_export(const struct trainer *t)
{
    struct err why = ERR_INIT;
    if (t->config->model_type != MODEL_NONE && !can_export(t, &why))
        trainer_note(t, "no model.gguf will be written: %s", why.msg);
}

/* How the model was made; files of this machine are left out. */
static json_t *recipe(const struct trainer *t)
{
    return json_pack("{s:s, s:o, s:I, s:I, s:I}", "strobe", STROBE_VERSION, "config",
                     train_config_dump(t->config, true), "step", (json_int_t)t->state.step,
                     "tokens", (json_int_t)t->state.tokens, "data_tokens",
                     (json_int_t)t->data.info.n_token);
}

/* The last part of a path; empty for "/" and the like. */
static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static enum status write_model(struct trainer *t, const char *path, struct str how, struct err *err)
{
    static const enum dtype type[] = { DT_F32, DT_F16, DT_BF16, DT_Q8_0 };
    const struct train_config *c = t->config;
    const char *own = last_part(t->o->dir);
    return export_gguf(&(struct export_opts){ .shape = net_shape_of(t->net),
                                              .params = net_params(t->net),
                                              .vocab_path = t->data.vocab,
                                              .type = type[c->model_type],
                                              .name = c->name[0] ? c->name
                                                      : own[0]   ? own
                                                                 : "strobe",
                                              .license = str_c(c->license),
                                              .description = str_c(c->description),
                                              .recipe = how,
                                              .path = path },
                       err);
}

enum status trainer_export(struct trainer *t, char out[64], struct err *err)
{
    char path[FILE_PATH_MAX];
    struct err why = ERR_INIT;
    struct buf how = BUF_INIT;
    out[0] = '\0';
    if (!t->run || !can_export(t, &why))
        return ST_OK;
    json_t *doc = recipe(t);
    if (!doc)
        err_set(err, ST_NOMEM, "recipe");
    else if (json_write(doc, &how, err) == ST_OK && buf_ok(&how, "recipe", err) == ST_OK &&
             file_path(path, err, "%s/%s", t->o->dir, model_file) == ST_OK &&
             write_model(t, path, buf_view(&how), err) == ST_OK)
        snprintf(out, 64, "%s", model_file);
    json_free(doc);
    buf_clear(&how);
    return err->code;
}
