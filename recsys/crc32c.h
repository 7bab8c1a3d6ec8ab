/* recsys/crc32c.h - CRC-32C (Castagnoli, RFC 3720 appendix B.4). Pure, any thread. */
#ifndef STROBE_RECSYS_CRC32C_H
#define STROBE_RECSYS_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Pass the result of the last piece, 0 at first. */
uint32_t crc32c(uint32_t crc, const void *p, size_t n);

#endif
