/* engine/train/shape_json.h - a network's shape as a JSON object and back, for checkpoints and
 * run.json. Field names are those of struct net_shape, which are also those of the settings. */
#ifndef STROBE_TRAIN_SHAPE_JSON_H
#define STROBE_TRAIN_SHAPE_JSON_H

#include "engine/base/json.h"
#include "engine/train/net.h"

json_t *shape_dump(const struct net_shape *s); /* NULL: no memory */
/* All fields must be there. Errors: ST_FORMAT, ST_RANGE; the message names the field. The shape is
 * not checked otherwise: net_shape_check(). */
enum status shape_parse(const json_t *obj, struct net_shape *ret, struct err *err);
/* ST_OK: equal; else ST_ARG, "d_model is 128 there and 256 here". */
enum status shape_same(const struct net_shape *there, const struct net_shape *here,
                       struct err *err);

#endif
