/* mm_dataset.h - what a model is trained on: manifests of captioned media, and their decoded form in one mapped file.
 *
 *   mm_dataset *d;
 *   mm_dataset_opts o = { .cache = "data.mmc", .bad = say };
 *   mm_dataset_open(&d, &o, &err);
 *   mm_dataset_add(d, "stamps/manifest.jsonl", &err);      once per manifest
 *   mm_dataset_load(d, &err);                              decodes what the cache lacks, maps it
 *   ... mm_batch.h ...
 *   mm_dataset_close(&d);
 *
 * A manifest is JSON lines (also compressed by gzip), one record a line, each a set of things that belong together:
 *   image, audio, video   path of a file, relative to the manifest's folder, or {"b64":..}
 *   text                  a sentence that says what it is; with other media their caption
 *   texts                 language -> sentence or list of sentences that say the same
 *   text2                 a second text (a translation, a paraphrase, an explanation), `lang2` its language, `score` their likeness
 *   keywords, label       words (a list or one string); a class name (string or number)
 *   lang                  language of text; split: train (the default), val, test; id; concept: records with the same one show the same
 * Other keys are left alone. A record with something wrong is reported (file, line, key), counted and left out; a medium that does not
 * decode is reported likewise, and the rest of its record stays.
 *
 * After mm_dataset_load() a dataset is read only and may be used by any number of threads. */
#ifndef MM_DATASET_H
#define MM_DATASET_H

#include <stddef.h>
#include <stdint.h>
#include "base/mm_err.h"
#include "base/mm_json.h"
#include "media/mm_input.h"
#include "model/mm_model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- how media are prepared: for training and for use alike ---- */

typedef struct mm_prep {
    mm_input_spec image, audio, video; /* as a model that uses the data must have them; of the sound track of a video: `audio` */
    mm_alpha alpha;
    double max_seconds; /* of sound that is used; longer sound is cut */
} mm_prep;

/* The defaults: pictures and the 8 frames of a video (MM_FRAMES_SPREAD) whole, transparency on white, stretched to px x px (MM_FIT_STRETCH,
 * bicubic), and the first 10 s of a sound, as mm_uni_spec() has it; its (ln + 4) / 4 is about the mean (-3.9) and deviation (4.1) of speech and noises.
 * Stretched, because at 16 to 36 tokens a picture every one of them counts: a bar around a photo of 3 : 2 costs a third of them, a centre
 * crop costs the ends of what is shown, and drawings as long as 5 : 1 are common. Proportions are varied in training anyway. */
MM_API void mm_prep_init(mm_prep *p, int px);

/* ---- the data ---- */

typedef enum mm_split { MM_TRAIN, MM_VAL, MM_TEST } mm_split;

/* What a caption was in the manifest. */
enum { MM_CAPTION_TEXT, MM_CAPTION_TEXTS, MM_CAPTION_TEXT2, MM_CAPTION_KEYWORD, MM_CAPTION_LABEL };

typedef struct mm_caption {
    const char *p; /* [len], and a NUL */
    uint32_t len;
    uint16_t lang; /* mm_dataset_lang() */
    uint8_t role;  /* MM_CAPTION_* */
} mm_caption;

/* A decoded medium. */
typedef struct mm_item {
    unsigned kind;       /* MM_MEDIA_IMAGE, _AUDIO or _VIDEO */
    int n, width, height; /* image 1; video: frames; audio: n frames of width bins, height 1 */
    const uint8_t *px;   /* image and video: [n, height, width, 3] */
    const uint16_t *mel; /* audio: [n, width] float16, as prep.audio normalises */
    const float *times;  /* video: [n] seconds */
    float seconds;
    int truncated;       /* the file ends early, or was longer than max_seconds */
    int32_t track;       /* video: item of its sound track, -1: none */
    mm_image_quality image; /* of the original; of a video its middle frame */
    mm_sound_quality sound;
    float duplicates;    /* video */
    uint32_t checksum;   /* CRC-32C of the stored form */
} mm_item;

typedef struct mm_example {
    const char *id;       /* of the record; without one FILE:LINE */
    const char *label, *concept; /* "" if none */
    uint32_t line;
    uint16_t set, lang;
    uint8_t split;        /* mm_split */
    uint8_t handed;       /* an English caption speaks of left, right, letters and the like: do not mirror */
    uint32_t caption, n_captions; /* its captions are those of mm_dataset_caption() from `caption` on: text first */
    int32_t item[MM_MODALITIES];  /* items by modality, -1: none; [MM_TEXT] is unused (-1) */
    float score;          /* of text and text2, NaN: none */
    mm_slice raw;         /* the record as it stands in the manifest, if `keep_raw` */
} mm_example;

typedef struct mm_dataset mm_dataset;

typedef struct mm_dataset_opts { /* {0}: the defaults, but for `cache` */
    const mm_prep *prep;      /* NULL: mm_prep_init(80). Copied */
    const char *cache;        /* file of decoded media: made if missing, grown if it lacks something. NULL will do without media */
    int workers;              /* processes that decode; 0: 2 */
    int strict;               /* the first bad record or medium is an error */
    int keep_raw;             /* for mm_example.raw */
    /* May be NULL. bad: message is "FILE:LINE: what" with the key in it. progress: of decoding; anything but 0 stops it: mm_dataset_load()
     * then returns 1, and what is decoded is kept */
    void (*bad)(void *arg, int code, const char *message);
    int (*progress)(void *arg, size_t done, size_t total);
    void *arg;
} mm_dataset_opts;

MM_API MM_MUST_CHECK int mm_dataset_open(mm_dataset **out, const mm_dataset_opts *opts, mm_err *err);
/* Read a manifest: a file, or a folder with manifest.jsonl or manifest.jsonl.gz in it. Each is a set, named after its folder. MM_EIO;
 * MM_ETRUNC (compressed data that ends early); MM_EDATA when it has no good record at all; with `strict` the code of the first bad one. */
MM_API MM_MUST_CHECK int mm_dataset_add(mm_dataset *d, const char *path, mm_err *err);
/* Decode what the cache lacks and map it; once, after the last mm_dataset_add(). Files that changed (size or time) are decoded anew. Work
 * is kept: while it goes on, what is complete lies in CACHE.part; at the end a new cache takes the place of the old one. 0; 1 stopped by
 * `progress`; MM_EIO; MM_ELOCK another process is filling it; with `strict` the code of the first medium that fails; MM_ENOMEM. */
MM_API MM_MUST_CHECK int mm_dataset_load(mm_dataset *d, mm_err *err);
MM_API void mm_dataset_close(mm_dataset **d);

typedef struct mm_dataset_facts {
    size_t sets, examples, captions, items;
    size_t bad;      /* records left out */
    size_t bad_media; /* that did not decode, or are not there */
    size_t decoded;  /* by the last mm_dataset_load(); the rest was in the cache */
    uint64_t cache_bytes;
} mm_dataset_facts;
MM_API void mm_dataset_facts_get(const mm_dataset *d, mm_dataset_facts *f);
MM_API const mm_prep *mm_dataset_prep(const mm_dataset *d);
/* NULL beyond the last one. */
MM_API const mm_example *mm_dataset_example(const mm_dataset *d, size_t i);
MM_API const mm_caption *mm_dataset_caption(const mm_dataset *d, size_t i);
MM_API const mm_item *mm_dataset_item(const mm_dataset *d, size_t i);
MM_API const char *mm_dataset_set(const mm_dataset *d, size_t set);
/* Name of a language as the manifests spell it, "" for 0: not stated. */
MM_API const char *mm_dataset_lang(const mm_dataset *d, size_t lang);

#ifdef __cplusplus
}
#endif
#endif
