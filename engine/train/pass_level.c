/* engine/train/pass_level.c - the passes of one level: compiled once for each, with that level's
 * flags, PASS_TABLE (the table's name) and PASS_LEVEL. */
#include "engine/train/pass_act.inc"
#include "engine/train/pass_internal.h"
#include "engine/train/pass_norm.inc"
#include "engine/train/pass_row.inc"

const struct passes PASS_TABLE = {
    .level = PASS_LEVEL,
    .norm = norm,
    .norm_back = norm_back,
    .act = act,
    .act_back = act_back,
    .rope = rope,
    .copy_bias = copy_bias,
    .add = add,
    .scale = scale,
    .narrow = narrow,
    .widen = widen,
    .dot = dot,
    .columns = columns,
    .max = row_max,
    .exp_sum = exp_sum,
    .softmax_back = softmax_back,
    .tile = tile,
    .tile_back = tile_back,
};
