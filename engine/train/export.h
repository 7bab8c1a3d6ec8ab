/* engine/train/export.h - a trained network as a GGUF file that the engine and, where they can,
 * other programs run; and the way back, so that training goes on from a file.
 *
 * Architecture, by shape (anything else is refused, naming what does not fit):
 *   RMSNorm, RoPE, gate       "llama"
 *   RMSNorm, RoPE, no gate    "arcee": what other programs compute there is max(0, x)^2
 *   LayerNorm, learned        "gpt2" where the activation is GELU (fused Q, K, V), else "opt" (two
 *   positions, biases,        unused rows of positions), which llama.cpp does not know: better no
 *   no gate                   answer there than a wrong one
 *
 * What GGUF has no word for stands in keys of our own, always written, since models are otherwise
 * guessed by name: strobe.activation ("relu", "drelu", "shifted_relu:0.5", "silu,relu"; see
 * hparams_act_text) and, where true, strobe.norm_relu (max(0, .) behind the norms of attention and
 * feed-forward part). Programs that do not read them compute SiLU under "llama" and max(0, x)^2
 * under "arcee", that is, nonsense for a model trained otherwise; general.description then says so.
 * Duo networks have strobe.duo.* keys and tensors of their own (docs/duo.md), which other programs
 * refuse to load.
 * Numbers that GGUF holds as f32 (epsilon, RoPE base, shift) come back as the shortest decimal that
 * is that f32: 1e-5 stays 1e-5. Owner: one thread. */
#ifndef STROBE_TRAIN_EXPORT_H
#define STROBE_TRAIN_EXPORT_H

#include "engine/base/buf.h"
#include "engine/base/err.h"
#include "engine/kernel/dtype.h"
#include "engine/model/duo.h"
#include "engine/train/bpe.h"
#include "engine/train/net.h"

/* The router of a Duo model (docs/duo.md), all layers one after the other. n_in: n_hidden, or
 * d_model without a hidden layer. */
struct export_router {
    struct duo_hparams hp; /* n_choice, n_hidden, budgets and thresholds */
    real *in, *in_bias;    /* [n_layer, n_hidden, d_model], [n_layer, n_hidden]; NULL: linear */
    real *w, *bias;        /* [n_layer, n_choice, n_in], [n_layer, n_choice] */
};
void export_router_clear(struct export_router *r); /* frees the arrays */

struct export_opts {
    const struct net_shape *shape;
    const real *params; /* [net_n_param], in the order of net_tensors() */
    /* The tokenizer, exactly one: a GGUF file whose tokenizer.* pairs are taken, or a vocabulary. A
     * shape with more rows than tokens gets unused tokens "[PADn]" for the rest. */
    const char *vocab_path;
    const struct bpe *bpe;
    enum dtype type;  /* of matrices: DT_F32, DT_F16, DT_BF16 or DT_Q8_0 (rows that are no multiple
                         of 32: F16). Vectors and positions are F32 */
    const char *name; /* general.name */
    struct str license;                 /* general.license; these three may be empty */
    struct str description;             /* general.description */
    struct str recipe;                  /* strobe.recipe: how it was made, JSON or any text */
    const struct export_router *router; /* NULL: none; Duo networks only */
    const char *path;
};
/* Writes o->path, whole or not at all; memory is a few rows. Errors: ST_RANGE (shape; a parameter
 * that is not finite or too large for the type, by tensor), ST_UNSUPPORTED (no architecture for the
 * shape, type), ST_ARG (vocabulary larger than the embedding), those of reading the vocabulary,
 * those of model_open() on the result (head sizes are even, layers at most MODEL_LAYERS_MAX),
 * ST_IO, ST_NOMEM. */
enum status export_gguf(const struct export_opts *o, struct err *err);
/* The architecture a shape is written as. ST_UNSUPPORTED, ST_RANGE. */
enum status export_arch(const struct net_shape *s, const char **ret, struct err *err);

/* Reads a GGUF file of one of these architectures (also bamboo), of any element type. *params:
 * [net_n_param(shape)], free() it. Biases that only some layers or matrices have are zero in the
 * others. n_ctx is the file's: with RoPE it may be changed at will. Errors: those of model_open(),
 * ST_UNSUPPORTED naming what a net_shape cannot say (other architectures, scaled RoPE, windows,
 * soft caps, packed files, folders), ST_RANGE, ST_IO, ST_NOMEM. */
enum status import_gguf(const char *path, struct net_shape *shape, real **params, struct err *err);
/* The router of a Duo model. Errors: as import_gguf(), ST_UNSUPPORTED (no Duo model, no router). */
enum status import_router(const char *path, struct export_router *ret, struct err *err);

#endif
