/* engine/base/hash.h - FNV-1a for tables (not for hostile keys in unbounded number: every table
 * here is filled from bounded input) and SHA-256 (FIPS 180-4) for content identity. Pure. */
#ifndef STROBE_BASE_HASH_H
#define STROBE_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hash_bytes(const void *p, size_t n);

/* Checksum of a long run of bytes that comes in pieces: pass the result of the last piece, 0 at
 * first. Every piece but the last is a multiple of 8 bytes; how the run is cut does not matter.
 * Each step is a bijection of the state, so no change of up to 8 bytes goes unseen. */
uint64_t hash_chain(uint64_t h, const void *p, size_t n);

struct sha256 {
    uint32_t h[8];
    uint64_t n_byte;
    unsigned char block[64];
};
void sha256_init(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *p, size_t n);
void sha256_hex(struct sha256 *s, char out[65]); /* ends the computation */

#endif
