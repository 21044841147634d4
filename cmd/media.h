/* media.h - pictures, sound and video of records: where they are, what is written about them. For mm-embed and mm-media. */
#ifndef MM_CMD_MEDIA_H
#define MM_CMD_MEDIA_H

#include "cmd/cmd.h"
#include "media/mm_worker.h"
#include "model/mm_model.h"
#include "stream/mm_stream.h"

typedef struct mm_media_cli {
    int rotate, alpha, cut, quality;
    int64_t max_pixels, workers;
    double max_seconds, timeout;
} mm_media_cli;
#define MM_MEDIA_CLI_INIT { .rotate = 1 }

#define MM_OPTS_MEDIA(m) \
    MM_OPT_GROUP("Pictures, sound, video"), \
    MM_OPT_BOOL(0, "rotate", &(m).rotate, "turn pictures and frames as they say (default); --no-rotate for parity"), \
    MM_OPT_ENUM(0, "alpha", &(m).alpha, "drop|white|black", "transparency: stored colours, or on a ground (default: drop; unified model: white)"), \
    MM_OPT_INT(0, "max-pixels", &(m).max_pixels, "N", 1, 1LL << 32, "largest picture or frame (default 134217728)"), \
    MM_OPT_NUM(0, "max-seconds", &(m).max_seconds, "S", 0.001, 1e9, "longest sound or video (default 3600)"), \
    MM_OPT_BOOL(0, "cut", &(m).cut, "use the beginning of longer sound instead of failing"), \
    MM_OPT_BOOL(0, "quality", &(m).quality, "measure each input and write it as \"quality\""), \
    MM_OPT_INT(0, "workers", &(m).workers, "N", 1, 64, "processes that decode (default: as many as threads)"), \
    MM_OPT_NUM(0, "timeout", &(m).timeout, "S", 0.1, 86400, "longest time for decoding one input (default 60)")

/* Where a record's medium is. */
typedef struct mm_media_ref {
    mm_media_src src;  /* path or bytes; they live as the record's slices do, or in `bytes` */
    mm_buf bytes;      /* decoded from base64 */
    int modality;      /* of the key it came from: 1 image, 2 audio, 3 video; 0: a path or bytes of whatever kind */
} mm_media_ref;
enum { MM_REF_ANY, MM_REF_IMAGE, MM_REF_AUDIO, MM_REF_VIDEO };

/* The medium of one key: a string (a path), {"path":..} or {"b64":..}. 1, 0: there is none, or MM_E*. */
int mm_media_key(mm_rec *rec, int modality, mm_media_ref *out, mm_err *err);
/* Look for "image", "audio", "video" ("only": that one; MM_REF_ANY: video before image before audio), then bytes on the input, then a
 * path. 1, 0: there is none, or the code of the record's failure (mm_rec_fail() is done). */
int mm_media_find(mm_rec *rec, int only, mm_media_ref *out);
/* What was found out while decoding, as keys of the record: seconds, frames, has_audio, has_video, truncated, quality. */
int mm_media_report(mm_rec *rec, unsigned source, const mm_input_facts *f, int quality);
/* The common options as the library takes them. */
mm_input_opts mm_media_input_opts(const mm_media_cli *m);
int mm_media_workers(mm_workers **p, const mm_media_cli *m, mm_ctx *c);
/* The same where the first operand looks like a medium, which `look`, kept until mm_workers_close(), then probes: loading the decoders takes as
 * long as loading a model, and goes on meanwhile. Else *p stays NULL. */
int mm_media_begin(mm_workers **p, mm_job *look, const mm_media_cli *m, mm_ctx *c, int argc, char **argv);

/* What a model wants of a medium (only: mm_media_ref.modality, MM_REF_ANY: whatever it is), within `mods`, bits of modalities: the job's
 * specifications, and of which modality each is. How many. */
int mm_media_specs(const mm_model *m, unsigned mods, int only, mm_job *job, mm_modality is[MM_JOB_SPECS]);
/* What the model is then given: memory of the job. */
mm_part mm_media_part(const mm_job *job, mm_modality mod);

#endif
