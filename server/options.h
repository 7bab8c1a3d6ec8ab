/* server/options.h - the table that turns command-line words into settings. One row per setting
 * gives the flag, its bounds and its line in --help. Long names take "--name VALUE" or
 * "--name=VALUE"; flags take no value. Words are borrowed from argv. */
#ifndef STROBE_SERVER_OPTIONS_H
#define STROBE_SERVER_OPTIONS_H

#include "engine/base/buf.h"
#include "engine/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum opt_kind {
    OPT_FLAG,  /* bool * */
    OPT_STR,   /* const char ** */
    OPT_STRS,  /* struct opt_strs *: may be repeated */
    OPT_COUNT, /* uint64_t *, bounds min..max */
    OPT_REAL,  /* double *, bounds min..max */
    OPT_SIZE   /* uint64_t *: bytes with units, at least min */
};

enum { OPT_STRS_MAX = 16 };

struct opt_strs {
    const char *v[OPT_STRS_MAX];
    size_t n;
};

struct opt {
    const char *name; /* without dashes */
    char letter;      /* 0: none */
    enum opt_kind kind;
    void *dst;
    double min, max;   /* OPT_COUNT, OPT_REAL; min: OPT_SIZE */
    const char *value; /* "N", "SIZE": shown in help */
    const char *help;  /* with the default in words */
};

struct opt_table {
    const char *usage; /* "strobe generate -m MODEL -p TEXT [options]" */
    const char *about; /* one or two sentences */
    const struct opt *opt;
    size_t n;
};

/* Parses argv[0..argc); words that are no options go to rest (at most rest_max; "--" ends options).
 * Errors: ST_ARG, ST_RANGE: the message names the option. */
enum status opt_parse(const struct opt_table *t, int argc, char **argv, const char **rest,
                      size_t rest_max, size_t *n_rest, struct err *err);
void opt_help(const struct opt_table *t, FILE *out);

#endif
