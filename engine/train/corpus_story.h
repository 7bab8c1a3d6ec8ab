/* engine/train/corpus_story.h - the tables of stories (corpus_schema.c), for corpus_story.c. */
#ifndef STROBE_TRAIN_CORPUS_STORY_H
#define STROBE_TRAIN_CORPUS_STORY_H

#include "engine/train/corpus_internal.h"

enum { LINES_MAX = 8 };
enum { WHO_CHILD = 1, WHO_BEAST = 2 };
enum { ENDING_HAPPY = 1, ENDING_FRIEND = 2, ENDING_PROUD = 4, ENDING_NIGHT = 8 };

struct corpus_schema {
    const char *name, *topic; /* topic: "a kite", what a request may name */
    const char *line[LINES_MAX];
    uint32_t obj; /* tags of o, 0: it has none */
    uint8_t who;  /* WHO_* bits: whom it may be about */
    uint8_t end;  /* ENDING_* bits */
};
uint32_t corpus_schemas(const struct corpus_schema **ret);

/* NULL-ended: first sentences by who, last ones by ENDING_*. */
extern const char *const story_child[], *const story_beast[];
extern const char *const story_happy[], *const story_friend[], *const story_proud[],
                                                                   *const story_night[];

#endif
