/* engine/flash/predict.h - the decode rate that a plan allows, from the calibrated machine: the
 * disk's and the memory's time for a pass (flash.md 5.1). Pure arithmetic. */
#ifndef STROBE_FLASH_PREDICT_H
#define STROBE_FLASH_PREDICT_H

#include "engine/flash/plan.h"

/* Fills tokens_per_s, limit and why of a plan whose mode and sizes are set. */
void predict(const struct model *m, const struct plan_in *in, struct plan *p);
/* The faster of FLASH_SPARSE and FLASH_DENSE for a packed model whose slots are set. */
enum flash_mode predict_mode(const struct model *m, const struct plan_in *in, const struct plan *p);

#endif
