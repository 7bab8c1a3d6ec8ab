/* eval/program.h - conditions compiled for a search over many assignments. Every subexpression is
 * one instruction, shared by all conditions that hold it, and belongs to the depth at which its
 * last variable is bound: it is computed once there and not again in the loops below. Exact
 * numbers; an instruction whose operands or result do not exist is "poison", and a poisoned
 * condition is false. Owner: one thread. */
#ifndef STROBE_EVAL_PROGRAM_H
#define STROBE_EVAL_PROGRAM_H

#include "eval/template.h"

struct program;
/* Conditions cond[0..n) of t; depth[var]: at which depth the search binds the variable (0-based).
 * The program lives in mem. NULL: no memory. */
struct program *program_make(const struct template *t, const struct cond *const *cond, uint32_t n,
                             const int *depth, int n_depth, struct mem *mem);
void program_bind(struct program *p, uint32_t var, const struct value *v);
/* Runs depth's instructions (-1: those without variables). False: a condition does not hold. */
bool program_run(struct program *p, int depth);
/* Does anything depend on this depth's variables? */
bool program_has_steps(const struct program *p, int depth);
/* A condition "var == expression" whose right side is known above the variable's depth: then the
 * value is fixed. False: there is none for this variable, or it has no value. */
bool program_fixes(const struct program *p, uint32_t var);
bool program_fixed(const struct program *p, uint32_t var, struct rational *ret);
uint64_t program_steps(const struct program *p); /* instructions run so far */
void program_clear(struct program *p);           /* what evaluating used; NULL is fine */

#endif
