/* tests/fault/place.h - a folder of small models for one test: made at its begin, removed at its
 * end. */
#ifndef STROBE_TESTS_FAULT_PLACE_H
#define STROBE_TESTS_FAULT_PLACE_H

struct place {
    char dir[64];
    char gguf[128];     /* llama, with a chat template */
    char gguf_bpe[128]; /* qwen2: byte-level vocabulary, a pre-tokenizer of patterns */
    char folder[128];   /* qwen2: safetensors, tokenizer.json and all that may lie beside them */
    char gpt2[128];     /* safetensors whose tensors are transposed while they load */
    char shards[128];   /* an index and two shards, no model */
    char stories[4096]; /* a real model, "": absent, which was said */
};

/* Fails the running test when something cannot be written. */
void place_make(struct place *p);
void place_clear(struct place *p);

#endif
