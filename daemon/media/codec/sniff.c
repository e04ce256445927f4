#include "media/codec/sniff.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* A piece of the file; every read is checked against its end by the caller. */
typedef struct Span {
    const uint8_t *p;
    size_t n;
} Span;

static uint32_t be16(const uint8_t *p) {
    return (uint32_t)p[0] << 8 | p[1];
}

static uint32_t be32(const uint8_t *p) {
    return be16(p) << 16 | be16(p + 2);
}

static uint32_t le16(const uint8_t *p) {
    return (uint32_t)p[1] << 8 | p[0];
}

static uint32_t le24(const uint8_t *p) {
    return (uint32_t)p[2] << 16 | le16(p);
}

static uint32_t le32(const uint8_t *p) {
    return le16(p + 2) << 16 | le16(p);
}

/* The orientation tag (0x0112, one SHORT) of the first directory of a TIFF structure; 1 when it is
 * absent or the structure is damaged, because a picture is no worse for it. */
static int tiff_orientation(Span tiff) {
    if (tiff.n < 8)
        return 1;
    bool little = memcmp(tiff.p, "II*\0", 4) == 0;
    if (!little && memcmp(tiff.p, "MM\0*", 4) != 0)
        return 1;
    uint32_t (*u16)(const uint8_t *) = little ? le16 : be16;
    uint32_t directory = little ? le32(tiff.p + 4) : be32(tiff.p + 4);
    if (directory > tiff.n - 2)
        return 1;
    uint32_t n_entries = u16(tiff.p + directory);
    for (uint32_t i = 0; i < n_entries; i++) {
        size_t at = (size_t)directory + 2 + (size_t)i * 12;
        if (at + 12 > tiff.n)
            return 1;
        const uint8_t *entry = tiff.p + at;
        if (u16(entry) != 0x0112 || u16(entry + 2) != 3)
            continue;
        uint32_t value = u16(entry + 8);
        return value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

/* PNG: signature, then chunks of length, type, data, CRC; IHDR first, IEND last. */
static int sniff_png(Span file, Sniffed *s, Err *err) {
    bool has_data = false;
    for (size_t at = 8; at + 12 <= file.n;) {
        const uint8_t *chunk = file.p + at;
        uint32_t n = be32(chunk);
        const uint8_t *data = chunk + 8;
        if (n > file.n - at - 12)
            return err_set(err, -EBADMSG, "the PNG ends within the chunk at byte %zu", at);
        if (at == 8) {
            if (memcmp(chunk + 4, "IHDR", 4) != 0 || n != 13)
                return err_set(err, -EBADMSG, "the PNG does not begin with its header");
            s->width = be32(data);
            s->height = be32(data + 4);
        }
        if (memcmp(chunk + 4, "IDAT", 4) == 0)
            has_data = true;
        if (memcmp(chunk + 4, "eXIf", 4) == 0)
            s->orientation = tiff_orientation((Span){data, n});
        if (memcmp(chunk + 4, "IEND", 4) == 0)
            return has_data ? 0 : err_set(err, -EBADMSG, "the PNG has no picture data");
        at += (size_t)n + 12;
    }
    return err_set(err, -EBADMSG, "the PNG of %zu bytes ends before its last chunk", file.n);
}

/* First byte after entropy-coded data: a marker that is neither a stuffed 0xff nor a restart. */
static size_t jpeg_skip_scan(Span file, size_t at) {
    while (at + 1 < file.n) {
        uint8_t next = file.p[at + 1];
        if (file.p[at] == 0xff && next != 0 && next != 0xff && !(next >= 0xd0 && next <= 0xd7))
            break;
        at++;
    }
    return at;
}

static int jpeg_frame_header(Span segment, uint8_t marker, Sniffed *s, Err *err) {
    if (marker > 0xc2)
        return err_set(err, -EBADMSG,
                "the JPEG is of a rare kind (SOF%d); baseline, extended and progressive are read",
                marker - 0xc0);
    if (segment.n < 6)
        return err_set(err, -EBADMSG, "the JPEG's frame header has %zu bytes, at least 6 wanted",
                segment.n);
    if (s->width)
        return err_set(err, -EBADMSG, "the JPEG has two frame headers");
    uint8_t n_components = segment.p[5];
    if (segment.p[0] != 8 || (n_components != 1 && n_components != 3))
        return err_set(err, -EBADMSG,
                "the JPEG has %d components of %d bits; 1 or 3 of 8 bits are read", n_components,
                segment.p[0]);
    s->height = be16(segment.p + 1);
    s->width = be16(segment.p + 3);
    return 0;
}

static bool is_frame_header(uint8_t marker) {
    return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
}

/* JPEG: markers 0xff xx, most with a length (its own two bytes included) and data; after
 * start-of-scan follow coded bytes; end-of-image is last. */
static int sniff_jpeg(Span file, Sniffed *s, Err *err) {
    bool has_scan = false;
    size_t at = 2;
    while (at + 2 <= file.n) {
        if (file.p[at] != 0xff)
            return err_set(err, -EBADMSG, "the JPEG has no marker at byte %zu", at);
        uint8_t marker = file.p[at + 1];
        if (marker == 0xff) { /* a fill byte */
            at++;
            continue;
        }
        if (marker == 0xd9)
            return has_scan ? 0 : err_set(err, -EBADMSG, "the JPEG has no picture data");
        if (at + 4 > file.n)
            break;
        size_t n = be16(file.p + at + 2);
        if (n < 2 || n > file.n - at - 2)
            return err_set(err, -EBADMSG, "the JPEG ends within the segment at byte %zu", at);
        Span segment = {file.p + at + 4, n - 2};
        if (is_frame_header(marker)) {
            int r = jpeg_frame_header(segment, marker, s, err);
            if (r < 0)
                return r;
        }
        if (marker == 0xe1 && segment.n > 6 && memcmp(segment.p, "Exif\0\0", 6) == 0)
            s->orientation = tiff_orientation((Span){segment.p + 6, segment.n - 6});
        at += 2 + n;
        if (marker == 0xda) {
            has_scan = true;
            at = jpeg_skip_scan(file, at);
        }
    }
    return err_set(err, -EBADMSG, "the JPEG of %zu bytes ends before its end marker", file.n);
}

static int webp_lossy(Span chunk, uint32_t *ret_width, uint32_t *ret_height, Err *err) {
    if (chunk.n < 10 || memcmp(chunk.p + 3, "\x9d\x01\x2a", 3) != 0)
        return err_set(err, -EBADMSG, "the WebP has no key frame");
    *ret_width = le16(chunk.p + 6) & 0x3fff;
    *ret_height = le16(chunk.p + 8) & 0x3fff;
    return 0;
}

static int webp_lossless(Span chunk, uint32_t *ret_width, uint32_t *ret_height, Err *err) {
    if (chunk.n < 5 || chunk.p[0] != 0x2f)
        return err_set(err, -EBADMSG, "the WebP's lossless data has no signature");
    uint32_t bits = le32(chunk.p + 1);
    *ret_width = (bits & 0x3fff) + 1;
    *ret_height = (bits >> 14 & 0x3fff) + 1;
    return 0;
}

/* VP8X: flags (bit 1: animation), three reserved bytes, canvas width - 1 and height - 1. */
static int webp_extended(Span chunk, Sniffed *s, Err *err) {
    if (chunk.n < 10)
        return err_set(err, -EBADMSG, "the WebP's header has %zu bytes, 10 wanted", chunk.n);
    if (chunk.p[0] & 2)
        return err_set(err, -EBADMSG, "the WebP is an animation; a still picture is wanted");
    s->width = le24(chunk.p + 4) + 1;
    s->height = le24(chunk.p + 7) + 1;
    return 0;
}

static int webp_chunk(const char *name, Span chunk, Sniffed *s, bool *ret_has_data, Err *err) {
    uint32_t width = 0, height = 0;
    int r;
    if (memcmp(name, "VP8X", 4) == 0)
        return webp_extended(chunk, s, err);
    if (memcmp(name, "EXIF", 4) == 0) {
        bool named = chunk.n > 6 && memcmp(chunk.p, "Exif\0\0", 6) == 0;
        s->orientation = tiff_orientation(named ? (Span){chunk.p + 6, chunk.n - 6} : chunk);
        return 0;
    }
    if (memcmp(name, "VP8 ", 4) == 0)
        r = webp_lossy(chunk, &width, &height, err);
    else if (memcmp(name, "VP8L", 4) == 0)
        r = webp_lossless(chunk, &width, &height, err);
    else
        return 0;
    if (r < 0)
        return r;
    if (*ret_has_data || (s->width && (s->width != width || s->height != height)))
        return err_set(err, -EBADMSG, "the WebP's picture of %ux%u is not all of its %ux%u", width,
                height, s->width, s->height);
    s->width = width;
    s->height = height;
    *ret_has_data = true;
    return 0;
}

/* WebP: RIFF, length, WEBP, then chunks of name, length, data, padded to even lengths. */
static int sniff_webp(Span file, Sniffed *s, Err *err) {
    uint32_t n_riff = le32(file.p + 4);
    if (n_riff < 4 || n_riff > file.n - 8)
        return err_set(err, -EBADMSG, "the WebP has %zu bytes, its header says %ju", file.n,
                (uintmax_t)n_riff + 8);
    size_t end = (size_t)n_riff + 8;
    bool has_data = false;
    for (size_t at = 12; at + 8 <= end;) {
        uint32_t n = le32(file.p + at + 4);
        if (n > end - at - 8)
            return err_set(err, -EBADMSG, "the WebP ends within the chunk at byte %zu", at);
        int r = webp_chunk(
                (const char *)file.p + at, (Span){file.p + at + 8, n}, s, &has_data, err);
        if (r < 0)
            return r;
        at += 8 + (size_t)n + (n & 1);
    }
    return has_data ? 0 : err_set(err, -EBADMSG, "the WebP has no picture data");
}

int sniff_picture(const uint8_t *data, size_t n, Sniffed *ret, Err *err) {
    Span file = {data, n};
    Sniffed s = {.orientation = 1};
    int r;
    if (n >= 8 && memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0) {
        s.kind = PICTURE_PNG;
        r = sniff_png(file, &s, err);
    } else if (n >= 3 && memcmp(data, "\xff\xd8\xff", 3) == 0) {
        s.kind = PICTURE_JPEG;
        r = sniff_jpeg(file, &s, err);
    } else if (n >= 12 && memcmp(data, "RIFF", 4) == 0 && memcmp(data + 8, "WEBP", 4) == 0) {
        s.kind = PICTURE_WEBP;
        r = sniff_webp(file, &s, err);
    } else {
        return err_set(err, -EBADMSG, "the picture's %zu bytes are no PNG, JPEG or WebP", n);
    }
    if (r < 0)
        return r;
    if (!s.width || !s.height)
        return err_set(
                err, -EBADMSG, "the picture says that it has %ux%u pixels", s.width, s.height);
    *ret = s;
    return 0;
}
