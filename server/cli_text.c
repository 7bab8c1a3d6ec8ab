/* server/cli_text.c - `strobe tokenize` and `strobe detokenize`. They open the tokenizer alone, so
 * vocabulary-only files work and no weights are read. */
#include "engine/base/num.h"
#include "engine/model/tokenizer.h"
#include "server/cli.h"

#include <sys/stat.h>

enum { IDS_MAX = 1 << 20 };

/* Opens the tokenizer of a GGUF file or folder; *gguf stays open beside it (NULL for a folder). */
static enum status open_tokenizer(const char *model, const char *pre, struct gguf **gguf,
                                  struct tokenizer **ret, struct err *err)
{
    struct stat st;
    if (!model)
        return err_set(err, ST_ARG, "no model: give -m FILE.gguf or -m FOLDER");
    if (stat(model, &st) == 0 && S_ISDIR(st.st_mode))
        return tokenizer_from_dir(model, ret, err);
    if (gguf_open(model, gguf, err) != ST_OK)
        return err->code;
    if (tokenizer_from_gguf(*gguf, pre, ret, err) != ST_OK)
        return err_ctx(err, "'%s'", model);
    return ST_OK;
}

static enum status print_ids(const struct tokens *ids, bool json, struct err *err)
{
    if (json) {
        json_t *arr = json_array();
        for (size_t i = 0; arr && i < ids->n; i++)
            json_array_append_new(arr, json_integer(ids->id[i]));
        return cli_print_json(json_pack("{s:o}", "tokens", arr), err);
    }
    for (size_t i = 0; i < ids->n; i++)
        printf(i ? " %d" : "%d", ids->id[i]);
    putchar('\n');
    return ST_OK;
}

enum status cli_tokenize(struct cli *c, struct err *err)
{
    const char *model = NULL, *pre = NULL, *rest[1];
    bool special = false, no_bos = false, done;
    size_t n_rest;
    struct cli_opts o;
    cli_opts_init(&o, c, "strobe tokenize -m MODEL [TEXT|-]",
                  "Prints the token ids of TEXT (standard input without TEXT or with -).");
    cli_opt(&o, (struct opt){ "model", 'm', OPT_STR, &model, 0, 0, "MODEL",
                              "GGUF file (vocabulary-only is enough) or folder" });
    cli_opt(&o, (struct opt){ "special", 0, OPT_FLAG, &special,
                              .help = "parse special tokens in the text" });
    cli_opt(&o, (struct opt){ "no-bos", 0, OPT_FLAG, &no_bos,
                              .help = "do not add what the model puts first" });
    cli_opt(&o, (struct opt){ "pre", 0, OPT_STR, &pre, 0, 0, "NAME",
                              "override the pre-tokenizer's name" });
    if (cli_parse(&o, c, rest, 1, &n_rest, &done, err) != ST_OK || done)
        return err->code;
    struct gguf *g = NULL;
    struct tokenizer *t = NULL;
    struct buf text = BUF_INIT;
    struct tokens ids = { 0 };
    if (open_tokenizer(model, pre, &g, &t, err) != ST_OK)
        goto out;
    if (tokenizer_warning(t)[0] && !c->quiet)
        fprintf(stderr, "strobe: warning: %s\n", tokenizer_warning(t));
    if (n_rest == 1 && strcmp(rest[0], "-") != 0)
        buf_z(&text, rest[0]);
    else if (cli_read_all("-", TOKENIZER_TEXT_MAX, &text, err) != ST_OK)
        goto out;
    unsigned flags = (no_bos ? 0u : TOK_BOS) | (special ? TOK_SPECIAL : 0u);
    if (buf_ok(&text, "text", err) == ST_OK &&
        tokenizer_encode(t, buf_view(&text), flags, &ids, err) == ST_OK)
        print_ids(&ids, c->json, err);
out:
    tokens_clear(&ids);
    buf_clear(&text);
    tokenizer_free(t);
    gguf_close(g);
    return err->code;
}

static enum status parse_ids(const struct tokenizer *t, const char *const *word, size_t n,
                             struct tokens *ids, struct err *err)
{
    uint32_t n_vocab = tokenizer_n_vocab(t);
    for (size_t i = 0; i < n; i++) {
        uint64_t id;
        if (num_u64(str_c(word[i]), "token id", 0, n_vocab - 1, &id, err) != ST_OK ||
            tokens_push(ids, (int32_t)id, err) != ST_OK)
            return err->code;
    }
    return ST_OK;
}

enum status cli_detokenize(struct cli *c, struct err *err)
{
    const char *model = NULL;
    const char **rest = calloc(IDS_MAX, sizeof *rest);
    bool special = false, done;
    size_t n_rest;
    struct gguf *g = NULL;
    struct tokenizer *t = NULL;
    struct tokens ids = { 0 };
    struct buf text = BUF_INIT;
    struct cli_opts o;
    cli_opts_init(&o, c, "strobe detokenize -m MODEL IDS...", "Prints the text of token ids.");
    cli_opt(&o, (struct opt){ "model", 'm', OPT_STR, &model, 0, 0, "MODEL",
                              "GGUF file (vocabulary-only is enough) or folder" });
    cli_opt(&o,
            (struct opt){ "special", 0, OPT_FLAG, &special, .help = "show special tokens too" });
    if (!rest) {
        err_set(err, ST_NOMEM, "words");
        goto out;
    }
    if (cli_parse(&o, c, rest, IDS_MAX, &n_rest, &done, err) != ST_OK || done ||
        open_tokenizer(model, NULL, &g, &t, err) != ST_OK ||
        parse_ids(t, rest, n_rest, &ids, err) != ST_OK ||
        tokenizer_decode(t, ids.id, ids.n, special, &text, err) != ST_OK ||
        buf_ok(&text, "text", err) != ST_OK)
        goto out;
    if (c->json) {
        cli_print_json(json_pack("{s:o}", "text", json_text(buf_view(&text))), err);
    } else {
        fwrite(buf_view(&text).p, 1, text.n, stdout);
        putchar('\n');
    }
out:
    buf_clear(&text);
    tokens_clear(&ids);
    tokenizer_free(t);
    gguf_close(g);
    free(rest);
    return err->code;
}
