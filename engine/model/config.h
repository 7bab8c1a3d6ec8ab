/* engine/model/config.h - config.json of a Hugging Face folder to struct spec (model-formats.md
 * 7.2). Refuses what the blocks cannot compute (ALiBi, post-norm OPT, experts) by name. Pure. */
#ifndef STROBE_MODEL_CONFIG_H
#define STROBE_MODEL_CONFIG_H

#include "engine/base/json.h"
#include "engine/model/arch.h"

enum { CONFIG_BYTES_MAX = 4 << 20 };

/* Reads dir/config.json; *ret is the document (strings of s point into it), json_free() it. */
enum status config_read(const char *dir, json_t **ret, struct err *err);
enum status spec_from_config(const json_t *doc, struct spec *s, struct err *err);

#endif
