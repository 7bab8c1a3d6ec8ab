/* engine/base/hash.h - FNV-1a for tables (not for hostile keys in unbounded number: every table
 * here is filled from bounded input) and SHA-256 (FIPS 180-4) for content identity. Pure. */
#ifndef STROBE_BASE_HASH_H
#define STROBE_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hash_bytes(const void *p, size_t n);

struct sha256 {
    uint32_t h[8];
    uint64_t n_byte;
    unsigned char block[64];
};
void sha256_init(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *p, size_t n);
void sha256_hex(struct sha256 *s, char out[65]); /* ends the computation */

#endif
