/* engine/flash/predictor_judge.h - the threshold of a trained predictor, and what it then finds and
 * misses, both with the arithmetic that the engine uses (mask.h). Inside of predictor_fit(). */
#ifndef STROBE_FLASH_PREDICTOR_JUDGE_H
#define STROBE_FLASH_PREDICTOR_JUDGE_H

#include "engine/flash/predictor_fit.h"

/* l->bias takes the highest threshold at which o->recall of the pairs that fire in the calibration
 * samples stay; where none fires it is left as it is. *report: of the test samples. Errors:
 * ST_NOMEM, ST_FORMAT (numbers that are none). */
enum status predictor_judge(const struct fit_opts *o, const struct samples_layer *s,
                            struct predictor_layer *l, struct fit_report *report, struct err *err);

#endif
