/* eval/library.h - templates from where they are: built in, files, folders. A file that cannot be
 * read stays in the list with its error, so that all can be reported at once. Public templates get
 * their level from the folder's name (p1, p2) and share their id across levels. */
#ifndef STROBE_EVAL_LIBRARY_H
#define STROBE_EVAL_LIBRARY_H

#include "eval/rows.h"
#include "eval/template.h"

struct lib_entry {
    char *source;       /* path, "built-in" or what the caller named it */
    char *name;         /* the template's id; of an unreadable one its file's name */
    struct template *t; /* NULL: unreadable */
    struct err why;     /* of an unreadable one */
};

struct lib_data { /* a .jsonl file */
    char *source;
    struct rows rows;
};

struct library {
    struct lib_entry *entry;
    size_t n, cap;
    struct lib_data *data;
    size_t n_data;
};

/* Adds what a path holds: a .json file (one template or a list of them), a .jsonl file, or a folder
 * of such, searched to depth 6, in the order of names. Errors: ST_NOTFOUND, ST_IO, ST_NOMEM, and
 * ST_FORMAT for .jsonl files; templates' own errors go into their entries. */
enum status library_add(struct library *l, const char *path, const struct pools *pools,
                        uint32_t max_rows, struct err *err);
enum status library_add_builtin(struct library *l, const struct pools *pools, struct err *err);
/* From a text: one template or a list. */
enum status library_add_text(struct library *l, struct str text, const char *source, int level,
                             const struct pools *pools, struct err *err);
void library_clear(struct library *l); /* a zeroed struct is fine */

/* The embedded files, for export: name and text; NULL name ends. */
struct builtin_file {
    const char *name;
    const char *text;
    size_t n;
};
extern const struct builtin_file builtin_files[];

#endif
