/* server/cli_pack.c - `strobe pack`: re-lays a ReLU model for neuron-level streaming. */
#include "engine/base/num.h"
#include "engine/flash/pack.h"
#include "server/cli.h"

#include <strings.h>

static enum status type_id(const char *word, int *ret, struct err *err)
{
    *ret = -1;
    for (uint32_t i = 0; word && i < DT_ID_MAX; i++) {
        const struct dtype_info *t = dtype_info(i);
        if (t && t->supported && strcasecmp(t->name, word) == 0)
            *ret = (int)i;
    }
    if (word && *ret < 0)
        return err_set(err, ST_ARG, "--type: no type '%s'; f16, q8_0, q4_0...", word);
    return ST_OK;
}

static enum status mask_id(const char *word, enum pack_mask *ret, struct err *err)
{
    static const char *const name[] = { "auto", "resident", "sketch", "sketch4", "lowrank" };
    *ret = PACK_MASK_AUTO;
    for (unsigned i = 0; word && i < sizeof name / sizeof name[0]; i++)
        if (strcmp(word, name[i]) == 0) {
            *ret = (enum pack_mask)i;
            return ST_OK;
        }
    return word ? err_set(err, ST_ARG,
                          "--mask: '%s' is none of auto, resident, sketch, sketch4, lowrank", word)
                : ST_OK;
}

static enum status place_id(const char *word, enum place_kind *ret, struct err *err)
{
    *ret = PLACE_NONE;
    for (int i = PLACE_NONE; word && i <= PLACE_COACTIVE; i++)
        if (strcmp(word, place_name((enum place_kind)i)) == 0) {
            *ret = (enum place_kind)i;
            return ST_OK;
        }
    return word ? err_set(err, ST_ARG, "--place: '%s' is none of none, rate, coactive", word)
                : ST_OK;
}

static enum status print_report(struct cli *c, const char *out, const struct pack_report *r,
                                struct err *err)
{
    char size[32];
    if (c->json)
        return cli_print_json(
            json_pack("{s:s, s:I, s:I, s:s, s:i, s:I, s:I, s:b, s:s}", "file", out, "bytes",
                      (json_int_t)r->bytes, "resumed_bytes", (json_int_t)r->resumed_bytes, "mask",
                      r->mask, "bundle_bytes", (int)r->stride, "bundles", (json_int_t)r->n_bundle,
                      "mask_bytes", (json_int_t)r->mask_bytes, "rates", r->rates, "place",
                      r->place),
            err);
    bool placed = strcmp(r->place, place_name(PLACE_NONE)) != 0;
    printf("%s: %s, %u neurons of %u bytes, mask %s%s%s%s\n", out, num_size_text(r->bytes, size),
           r->n_bundle, r->stride, r->mask, r->rates ? ", with firing rates" : "",
           placed ? ", placed: " : "", placed ? r->place : "");
    return ST_OK;
}

enum status cli_pack(struct cli *c, struct err *err)
{
    struct cli_opts o;
    const char *model = NULL, *out = NULL, *type = NULL, *mask = NULL, *activation = NULL,
               *rates = NULL, *predictor = NULL, *place = NULL;
    uint64_t align = 0;
    struct model *m;
    struct pack_report rep;
    bool done;
    cli_opts_init(&o, c, "strobe pack -m MODEL -o OUT.gguf [--type T]",
                  "Re-lays a ReLU model for flash: the weights of each feed-forward neuron side by "
                  "side, still a valid GGUF file. An interrupted run goes on where it stopped.");
    cli_opt(&o, (struct opt){ "model", 'm', OPT_STR, &model, 0, 0, "FILE", "GGUF file" });
    cli_opt(&o, (struct opt){ "output", 'o', OPT_STR, &out, 0, 0, "FILE", "packed file" });
    cli_opt(&o, (struct opt){ "type", 0, OPT_STR, &type, 0, 0, "T",
                              "convert matrices to this type (default: as they are)" });
    cli_opt(&o, (struct opt){ "mask", 0, OPT_STR, &mask, 0, 0, "KIND",
                              "auto, resident (gate or up stays in memory), sketch (an 8-bit "
                              "copy of it does), sketch4 (4 bits: not exact, see --mask-sigma "
                              "of generate and serve) or lowrank (not exact, with --predictor)" });
    cli_opt(&o, (struct opt){ "predictor", 0, OPT_STR, &predictor, 0, 0, "PRED",
                              "what `strobe predictor` trained, for --mask lowrank" });
    cli_opt(&o, (struct opt){ "activation", 0, OPT_STR, &activation, 0, 0, "ACT",
                              "override: relu, drelu, fatrelu:T" });
    cli_opt(&o, (struct opt){ "align", 0, OPT_SIZE, &align, 0, 4096, "BYTES",
                              "of bundles, a power of two (default: the disk's)" });
    cli_opt(&o, (struct opt){ "rates", 0, OPT_STR, &rates, 0, 0, "TRACE",
                              "neuron trace of a run of this model (generate --neuron-trace): how "
                              "often each neuron fires goes into the file, and the most active "
                              "ones are in memory before the first token" });
    cli_opt(&o, (struct opt){ "place", 0, OPT_STR, &place, 0, 0, "KIND",
                              "order of the neurons: none (as they are), rate (by how often they "
                              "fire) or coactive (those needed together side by side: fewer, "
                              "longer reads), with --rates; same function, its own rounding" });
    if (cli_parse(&o, c, NULL, 0, NULL, &done, err) != ST_OK || done)
        return err->code;
    if (!model || !out)
        return err_set(err, ST_ARG, "pack needs -m MODEL and -o OUT.gguf");
    struct pack_opts po = { .out = out,
                            .predictor = predictor,
                            .rates = rates,
                            .align = (uint32_t)align,
                            .progress = cli_progress,
                            .ctx = c };
    if (align & (align - 1))
        return err_set(err, ST_ARG, "--align: %llu is no power of two", (unsigned long long)align);
    if (type_id(type, &po.type, err) != ST_OK || mask_id(mask, &po.mask, err) != ST_OK ||
        place_id(place, &po.place, err) != ST_OK)
        return err->code;
    const struct model_opts mo = { .activation = activation };
    if (model_open(model, &mo, &m, err) != ST_OK)
        return err->code;
    enum status st = pack_run(m, &po, &rep, err);
    model_close(m);
    cli_progress_end(c);
    return st ? st : print_report(c, out, &rep, err);
}
