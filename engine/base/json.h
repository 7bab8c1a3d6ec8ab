/* engine/base/json.h - the only place that sees jansson. Reading: bounded in depth and size, exact
 * integers, duplicate keys refused, errors that name the path. Building: jansson's own calls
 * through the typedef; json_free() drops a reference. Values are reference-counted by jansson:
 * json_t results of the getters are borrowed from the document. Any thread, one document per
 * thread. */
#ifndef STROBE_BASE_JSON_H
#define STROBE_BASE_JSON_H

#include "engine/base/buf.h"
#include "engine/base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { JSON_DEPTH_MAX = 128 };

/* `what` names the source ("request body", a path). Text must be valid UTF-8 with one value and at
 * most JSON_DEPTH_MAX levels. Of duplicate keys the last one counts; a key with an escaped NUL is
 * refused (jansson's limit). Free *ret with json_free(). */
enum status json_parse(struct str text, const char *what, json_t **ret, struct err *err);
/* The same for files where a duplicate key means damage or deceit: ST_FORMAT. */
enum status json_parse_unique(struct str text, const char *what, json_t **ret, struct err *err);
void json_free(json_t *v); /* NULL is fine */

/* Members of an object. `must`: absent is ST_FORMAT, else *ret keeps its value. A wrong type is
 * ST_FORMAT and names the key, always. JSON null counts as absent. */
enum status json_get_str(const json_t *obj, const char *key, bool must, struct str *ret,
                         struct err *err);
enum status json_get_i64(const json_t *obj, const char *key, bool must, int64_t min, int64_t max,
                         int64_t *ret, struct err *err);
enum status json_get_f64(const json_t *obj, const char *key, bool must, double min, double max,
                         double *ret, struct err *err);
enum status json_get_bool(const json_t *obj, const char *key, bool must, bool *ret,
                          struct err *err);
/* Whether the object has no member but these n names. Otherwise ST_ARG with what was likely meant,
 * and *which (borrowed from the object) is the first other one. */
enum status json_only_keys(const json_t *obj, const char *const *name, size_t n, const char **which,
                           struct err *err);

/* Compact UTF-8 text, appended. ST_NOMEM. Invalid UTF-8 cannot be built: json_text() repairs it. */
enum status json_write(const json_t *v, struct buf *out, struct err *err);
/* A JSON string value from any bytes, malformed UTF-8 replaced by U+FFFD. NULL: no memory. */
json_t *json_text(struct str s);
/* Appends a quoted and escaped JSON string (no document needed: streaming hot path). */
void json_quote(struct buf *out, struct str s);

#endif
