/* heif_int.h - the items of a HEIF file: what heif_items.c finds and heif.c makes pictures of. Not installed. */
#ifndef MM_HEIF_INT_H
#define MM_HEIF_INT_H

#include "media/media_int.h"

#define MAX_PROPS 64 /* of one item */

typedef struct box {
    const uint8_t *p; /* payload */
    size_t len;
    uint32_t type;
} box;

#define TYPE(a, b, c, d) ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (d))

typedef struct heif {
    const media_job *j;
    box iprp, ipco, ipma, iloc, iref, iinf, idat, pitm;
    const char *name; /* "HEIC" or "AVIF" */
    int64_t left;     /* pixels that may still be decoded, tiles and alpha included */
} heif;

typedef struct reader { /* of big-endian numbers; after a read past the end all are 0 and bad is set */
    const uint8_t *p;
    size_t len;
    int bad;
} reader;

/* n bytes of a big-endian number. */
uint64_t heif_get(reader *r, size_t n);
/* Past version and flags of a box that has them. */
reader heif_full(const box *b, unsigned *version, unsigned *flags);
/* The box at r, whose end r is put behind; 0 at the end. A box that says more than there is ends the list. */
int heif_next(reader *r, box *b);
/* MM_EDATA: "the HEIC file is damaged: ...". */
int heif_broken(const heif *h, const char *what);

/* Where the tables are, of a meta box. */
MM_MUST_CHECK int heif_tables(heif *h, const box *meta);
uint32_t heif_type(const heif *h, uint32_t id); /* 0: no such item */
/* Items that id refers to, or, back, that refer to it. */
size_t heif_refs(const heif *h, uint32_t type, uint32_t id, int back, uint32_t *out, size_t max);
/* Properties of an item in their order. */
size_t heif_props(const heif *h, uint32_t id, box out[MAX_PROPS]);
/* The item's bytes, joined from its extents. */
MM_MUST_CHECK int heif_data(const heif *h, uint32_t id, mm_buf *out);

#endif
