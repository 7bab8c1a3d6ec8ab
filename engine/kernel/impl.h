/* engine/kernel/impl.h - everything a level consists of, over the sixteen lanes that the including
 * file chose. The order matters: later parts use earlier ones. */
// clang-format off
#include LANES_HEADER
#include "engine/kernel/impl_dot.h"
#include "engine/kernel/impl_vec.h"
#include "engine/kernel/impl_attn.h"
#include "engine/kernel/impl_table.h"
// clang-format on
