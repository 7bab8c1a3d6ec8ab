/* engine/model/tokenizer_bytes.c - the printable alphabet of byte-level BPE (model-formats.md 9.3):
 * the 68 bytes that do not print (0x00-0x20, 0x7F-0xA0, 0xAD) follow U+0100 in ascending order. */
#include "engine/base/utf8.h"
#include "engine/model/tokenizer_internal.h"

enum { FIRST_RUN = 0x21, SECOND_FROM = 0x7F, SECOND_RUN = 0xA1 - SECOND_FROM, SOFT_HYPHEN = 0xAD };

uint32_t byte_to_cp(uint8_t b)
{
    if (b < FIRST_RUN)
        return 0x100u + b;
    if (b >= SECOND_FROM && b < SECOND_FROM + SECOND_RUN)
        return 0x100u + FIRST_RUN + (b - SECOND_FROM);
    return b == SOFT_HYPHEN ? 0x100u + FIRST_RUN + SECOND_RUN : b;
}

int cp_to_byte(uint32_t cp)
{
    if (cp < 0x100)
        return byte_to_cp((uint8_t)cp) == cp ? (int)cp : -1;
    uint32_t k = cp - 0x100;
    if (k < FIRST_RUN)
        return (int)k;
    if (k < FIRST_RUN + SECOND_RUN)
        return (int)(SECOND_FROM + k - FIRST_RUN);
    return k == FIRST_RUN + SECOND_RUN ? SOFT_HYPHEN : -1;
}

void bytes_map(struct str raw, struct buf *out)
{
    char c[4];
    for (size_t i = 0; i < raw.n; i++)
        buf_put(out, c, utf8_encode(byte_to_cp((uint8_t)raw.p[i]), c));
}
