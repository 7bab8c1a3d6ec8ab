/* tests/unit/duo/duo_rig.h - a small random Duo model in memory, and a text for it. */
#ifndef STROBE_TESTS_UNIT_DUO_RIG_H
#define STROBE_TESTS_UNIT_DUO_RIG_H

#include "engine/duo/search.h"

struct duo_rig {
    struct duo_model m;
    struct duo_text t;
    struct duo_pass p;
};
/* n_layer layers, d_model 16, 23 words; two sequences of 9 and 6 targets on rows of 10. */
void duo_rig_open(struct duo_rig *r, uint32_t n_layer, bool skip_layer);
void duo_rig_close(struct duo_rig *r);

#endif
