/* The data set as a whole: its arrays, the media that examples name, and what the outside may ask. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/mm_str.h"
#include "train/dataset_int.h"

int dataset_room(void *array, size_t *cap, size_t n, size_t size, mm_err *err)
{
    void *p;
    if (n < *cap) return 0;
    const size_t want = n < 64 ? 64 : 2 * n;
    memcpy(&p, array, sizeof p);
    if (want > INT32_MAX || !(p = mm_realloc(p, want, size))) return mm_fail(err, MM_ENOMEM, "out of memory");
    memcpy(array, &p, sizeof p);
    *cap = want;
    return 0;
}

int dataset_bad(const mm_dataset *d, int code, const char *message, mm_err *err)
{
    if (d->opts.bad) d->opts.bad(d->opts.arg, code, message);
    return d->opts.strict ? mm_fail(err, code, "%s", message) : 0;
}

void dataset_id(uint64_t id[2], const mm_dataset *d, unsigned kind, const void *name, size_t len, int by_bytes)
{
    const int modality = kind == MM_MEDIA_IMAGE ? MM_IMAGE : kind == MM_MEDIA_AUDIO ? MM_AUDIO : MM_VIDEO;
    for (int i = 0; i < 2; i++)
        id[i] = mm_hash64(name, len, d->prep_id[modality] + (uint64_t)(8 * modality + 4 * by_bytes + i));
}

static size_t request_slot(const mm_dataset *d, const uint64_t id[2])
{
    size_t at = id[0] & (d->request_slots - 1);
    for (; d->request_table[at]; at = (at + 1) & (d->request_slots - 1)) {
        const request *o = &d->request[d->request_table[at] - 1];
        if (o->id[0] == id[0] && o->id[1] == id[1]) break;
    }
    return at;
}

static int grow_table(mm_dataset *d, mm_err *err)
{
    const size_t slots = d->request_slots ? 2 * d->request_slots : 256;
    free(d->request_table);
    d->request_slots = slots;
    if (!(d->request_table = calloc(slots, sizeof *d->request_table))) {
        d->request_slots = 0;
        return mm_fail(err, MM_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < d->n_request; i++) d->request_table[request_slot(d, d->request[i].id)] = (uint32_t)i + 1;
    return 0;
}

int dataset_request(mm_dataset *d, request *r, uint32_t *number, mm_err *err)
{
    int rc = 2 * (d->n_request + 1) >= d->request_slots ? grow_table(d, err) : 0;
    if (!rc) rc = dataset_room(&d->request, &d->cap_request, d->n_request, sizeof *d->request, err);
    if (rc) {
        free(r->data);
        return rc;
    }
    const size_t at = request_slot(d, r->id);
    if (d->request_table[at]) {
        free(r->data);
    } else {
        d->request[d->n_request] = *r;
        d->request_table[at] = (uint32_t)++d->n_request;
    }
    *number = d->request_table[at] - 1;
    return 0;
}

/* ---- from outside ---- */

static int check_prep(const mm_prep *p, mm_err *err)
{
    const mm_input_spec *const pictures[] = { &p->image, &p->video };
    for (int i = 0; i < 2; i++)
        if (pictures[i]->height != pictures[i]->width || pictures[i]->image.width != pictures[i]->width ||
            pictures[i]->image.height != pictures[i]->height)
            return mm_fail(err, MM_EARG, "pictures are stored as squares, not %d x %d", pictures[i]->width,
                           pictures[i]->height);
    if (p->image.views != 1 || p->video.views != 1 || p->audio.views != 1 || p->image.by_pytorch ||
        p->video.by_pytorch || p->audio.sound != MM_SOUND_WHOLE)
        return mm_fail(err, MM_EARG, "media are stored whole, as one view each");
    if (p->video.frames < 1 || p->video.frames > MM_INPUT_TIMES)
        return mm_fail(err, MM_EARG, "%d frames of a video: 1 to %d are stored", p->video.frames, MM_INPUT_TIMES);
    if (p->audio.mel.bins > 1023)
        return mm_fail(err, MM_EARG, "%d bins of sound: at most 1023 are stored", p->audio.mel.bins);
    return 0;
}

int mm_dataset_open(mm_dataset **out, const mm_dataset_opts *opts, mm_err *err)
{
    *out = NULL;
    mm_dataset *d = calloc(1, sizeof *d);
    if (!d) return mm_fail(err, MM_ENOMEM, "out of memory");
    d->opts = *opts;
    d->cache.fd = -1;
    if (opts->prep) d->prep = *opts->prep;
    else mm_prep_init(&d->prep, 80);
    d->opts.prep = &d->prep;
    for (int i = 0; i < MM_MODALITIES; i++) d->prep_id[i] = prep_id(&d->prep, i);
    int r = check_prep(&d->prep, err);
    if (!r && opts->cache && !(d->cache_path = strdup(opts->cache))) r = mm_fail(err, MM_ENOMEM, "out of memory");
    if (!r) r = dataset_room(&d->lang, &d->cap_lang, 0, sizeof *d->lang, err);
    if (r) {
        mm_dataset_close(&d);
        return r;
    }
    d->lang[d->n_lang++] = "";
    *out = d;
    return 0;
}

int mm_dataset_add(mm_dataset *d, const char *path, mm_err *err)
{
    static const char *const names[] = { "manifest.jsonl", "manifest.jsonl.gz" };
    struct stat st;
    if (d->loaded) return mm_fail(err, MM_EARG, "'%s': the data set is loaded already", path);
    if (stat(path, &st)) return mm_fail_errno(err, "cannot open '%s'", path);
    if (!S_ISDIR(st.st_mode)) return dataset_read_manifest(d, path, err);
    for (int i = 0; i < 2; i++) {
        char *p = mm_path_join(path, names[i]);
        if (!p) return mm_fail(err, MM_ENOMEM, "out of memory");
        int r = stat(p, &st) ? 1 : dataset_read_manifest(d, p, err);
        free(p);
        if (r <= 0) return r;
    }
    return mm_fail(err, MM_EIO, "'%s' has no manifest.jsonl or manifest.jsonl.gz", path);
}

static void show_item(const mm_dataset *d, mm_item *it, const request *q)
{
    const cache_entry *e = q->e;
    const uint8_t *p = cache_data(&d->cache, e);
    *it = (mm_item){ .kind = e->kind,
                     .n = e->n,
                     .width = e->width,
                     .height = e->height,
                     .seconds = e->seconds,
                     .track = -1,
                     .truncated = !!(e->flags & ENTRY_TRUNCATED),
                     .image = e->image,
                     .sound = e->sound,
                     .duplicates = e->duplicates,
                     .checksum = e->crc };
    if (e->kind == MM_MEDIA_AUDIO) it->mel = (const uint16_t *)(const void *)p;
    else if (e->kind == MM_MEDIA_IMAGE) it->px = p;
    else it->times = (const float *)(const void *)p, it->px = p + ((size_t)e->n * sizeof(float) + 63) / 64 * 64;
    if (q->track >= 0 && d->request[q->track].e) it->track = q->track;
}

int mm_dataset_load(mm_dataset *d, mm_err *err)
{
    if (d->loaded) return mm_fail(err, MM_EARG, "the data set is loaded already");
    if (d->n_request && !d->cache_path)
        return mm_fail(err, MM_EARG, "there are media, but no file for their decoded form");
    d->decoded = 0;
    int r = d->n_request ? dataset_fill(d, err) : 0;
    if (r) return r;
    if (!(d->item = calloc(d->n_request + 1, sizeof *d->item))) return mm_fail(err, MM_ENOMEM, "out of memory");
    for (size_t i = 0; i < d->n_request; i++) {
        if (d->request[i].e) show_item(d, &d->item[i], &d->request[i]);
        free(d->request[i].data);
        d->request[i].data = NULL;
    }
    for (size_t i = 0; i < d->n_example; i++)
        for (int m = 0; m < MM_MODALITIES; m++)
            if (d->example[i].item[m] >= 0 && !d->request[d->example[i].item[m]].e) d->example[i].item[m] = -1;
    d->loaded = 1;
    return 0;
}

void mm_dataset_close(mm_dataset **p)
{
    mm_dataset *d = *p;
    *p = NULL;
    if (!d) return;
    cache_close(&d->cache);
    for (size_t i = 0; i < d->n_set; i++) free(d->set[i].name), free(d->set[i].manifest);
    for (size_t i = 0; i < d->n_request; i++) free(d->request[i].data);
    free(d->set), free(d->example), free(d->caption), free(d->lang), free(d->request), free(d->item),
        free(d->request_table), free(d->cache_path);
    mm_arena_clear(&d->names);
    free(d);
}

void mm_dataset_facts_get(const mm_dataset *d, mm_dataset_facts *f)
{
    size_t items = 0;
    for (size_t i = 0; i < d->n_request; i++) items += d->request[i].e != NULL;
    *f = (mm_dataset_facts){ d->n_set, d->n_example, d->n_caption, items,
                             d->bad,   d->bad_media, d->decoded,   d->cache.map.len };
}

const mm_prep *mm_dataset_prep(const mm_dataset *d) { return &d->prep; }
const mm_example *mm_dataset_example(const mm_dataset *d, size_t i)
{
    return i < d->n_example ? &d->example[i] : NULL;
}
const mm_caption *mm_dataset_caption(const mm_dataset *d, size_t i)
{
    return i < d->n_caption ? &d->caption[i] : NULL;
}
const mm_item *mm_dataset_item(const mm_dataset *d, size_t i)
{
    return d->loaded && i < d->n_request && d->item[i].kind ? &d->item[i] : NULL;
}
const char *mm_dataset_set(const mm_dataset *d, size_t set) { return set < d->n_set ? d->set[set].name : NULL; }
const char *mm_dataset_lang(const mm_dataset *d, size_t lang) { return lang < d->n_lang ? d->lang[lang] : NULL; }
