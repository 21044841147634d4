/* The pool: one thread and one child process for each worker; requests over a socket, results in shared memory. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/mm_str.h"
#include "media/worker_int.h"

#define MAX_WORKERS 64

enum { IDLE, QUEUED, DONE };

struct mm_workers {
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    mm_job *head, *tail;
    int quit, mem, n;
    uint8_t *map;
    size_t top;
    struct {
        size_t at, bytes;
    } *free;
    size_t n_free, cap_free;
    double seconds;
    size_t memory;
    char *program;
    struct worker {
        mm_workers *p;
        pthread_t thread;
        pid_t pid; /* 0: not running */
        int fd, started;
    } w[MAX_WORKERS];
};

int worker_send(int fd, const void *p, size_t len)
{
    while (len) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return -1;
        p = (const char *)p + n;
        len -= (size_t)n;
    }
    return 0;
}

int worker_recv(int fd, void *p, size_t len)
{
    while (len) {
        ssize_t n = recv(fd, p, len, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return -1;
        p = (char *)p + n;
        len -= (size_t)n;
    }
    return 0;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int start(struct worker *w)
{
    extern char **environ;
    int s[2];
    posix_spawn_file_actions_t fa;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s)) return -1;
    char *const argv[] = { w->p->program, (char[]){ "--worker" }, NULL };
    /* out of the way of 3 and 4 first: a descriptor copied onto itself would stay close-on-exec */
    int a = fcntl(s[1], F_DUPFD_CLOEXEC, 10), b = fcntl(w->p->mem, F_DUPFD_CLOEXEC, 10);
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&fa, a, 3);
    posix_spawn_file_actions_adddup2(&fa, b, 4);
    int r = a < 0 || b < 0 ? errno : posix_spawn(&w->pid, w->p->program, &fa, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    close(s[1]);
    if (a >= 0) close(a);
    if (b >= 0) close(b);
    if (r) {
        close(s[0]);
        w->pid = 0;
        errno = r;
        return -1;
    }
    w->fd = s[0];
    return 0;
}

/* Ends the child and says how it went. */
static int stop(struct worker *w, int kill_it)
{
    int status = 0;
    if (kill_it) kill(w->pid, SIGKILL);
    close(w->fd);
    while (waitpid(w->pid, &status, 0) < 0 && errno == EINTR) {}
    pthread_mutex_lock(&w->p->lock);
    w->pid = 0;
    pthread_mutex_unlock(&w->p->lock);
    return status;
}

static void fail(mm_job *j, int code, const char *fmt, ...) MM_PRINTF(3, 4);
static void fail(mm_job *j, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    j->code = code;
    vsnprintf(j->message, sizeof j->message, fmt, ap);
    va_end(ap);
}

static void run_job(struct worker *w, mm_job *j)
{
    mm_workers *p = w->p;
    worker_reply a;
    const char *path = j->src.path;
    worker_request q = { WORKER_MAGIC, path ? (uint32_t)strlen(path) : 0, path ? 0 : j->src.len, j->at, p->memory, { { 0 } }, j->opts, j->n };
    memcpy(q.spec, j->spec, sizeof q.spec);
    if (!w->pid && start(w)) {
        fail(j, MM_EIO, "cannot start '%s': %s", p->program, strerror(errno));
        return;
    }
    int sent = !worker_send(w->fd, &q, sizeof q) && !worker_send(w->fd, path, q.path_len) && (path || !worker_send(w->fd, j->src.data, j->src.len));
    double end = now() + p->seconds, left;
    struct pollfd pf = { w->fd, POLLIN, 0 };
    int ready = 0;
    while (sent && (left = end - now()) > 0 && ready <= 0) {
        ready = poll(&pf, 1, (int)(left * 1000) + 1);
        if (ready < 0 && errno != EINTR) break;
    }
    if (sent && ready <= 0) {
        stop(w, 1);
        fail(j, MM_ELONG, "'%s': decoding took more than %.0f s and was given up", path ? path : "the input", p->seconds);
        return;
    }
    if (!sent || worker_recv(w->fd, &a, sizeof a) || a.magic != WORKER_MAGIC) {
        int status = stop(w, 0);
        const char *what = path ? path : "the input";
        if (WIFSIGNALED(status)) fail(j, MM_EDATA, "'%s': the decoder crashed on it (%s)", what, strsignal(WTERMSIG(status)));
        else fail(j, MM_EDATA, "'%s': the decoder ended with status %d on it", what, WEXITSTATUS(status));
        return;
    }
    j->code = a.code;
    j->chosen = a.chosen;
    j->facts = a.facts;
    memcpy(j->message, a.message, sizeof j->message);
}

static void *serve(void *arg)
{
    struct worker *w = arg;
    mm_workers *p = w->p;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->head && !p->quit) pthread_cond_wait(&p->work, &p->lock);
        if (p->quit) break;
        mm_job *j = p->head;
        if (!(p->head = j->next)) p->tail = NULL;
        pthread_mutex_unlock(&p->lock);
        run_job(w, j);
        pthread_mutex_lock(&p->lock);
        j->state = DONE;
        pthread_cond_broadcast(&p->done);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* mm-media beside this program, else from PATH */
static char *find_program(const char *given)
{
    char self[4096], *slash;
    if (given) return strdup(given);
    const char *env = getenv("MM_MEDIA"), *path = getenv("PATH");
    if (env && env[0]) return strdup(env);
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 16);
    if (n > 0) {
        self[n] = 0;
        if ((slash = strrchr(self, '/'))) {
            snprintf(slash + 1, 16, "mm-media");
            if (!access(self, X_OK)) return strdup(self);
        }
    }
    for (const char *at = path ? path : "", *end; *at; at = *end ? end + 1 : end) {
        mm_buf b = { 0 };
        end = at + strcspn(at, ":");
        mm_buf_add(&b, at, (size_t)(end - at));
        mm_buf_adds(&b, "/mm-media");
        if (!b.failed && end > at && !access(b.p, X_OK)) return b.p;
        mm_buf_clear(&b);
    }
    return strdup("mm-media");
}

int mm_workers_open(mm_workers **out, const mm_workers_opts *opts, mm_err *err)
{
    static const mm_workers_opts none;
    const mm_workers_opts *o = opts ? opts : &none;
    *out = NULL;
    mm_workers *p = calloc(1, sizeof *p);
    if (!p) return mm_fail(err, MM_ENOMEM, "out of memory");
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->done, NULL);
    p->n = o->workers < 1 ? 1 : o->workers > MAX_WORKERS ? MAX_WORKERS : o->workers;
    p->seconds = o->seconds > 0 ? o->seconds : 60;
    p->memory = o->memory ? o->memory : (size_t)4 << 30;
    p->map = MAP_FAILED;
    p->mem = memfd_create("mm-media", MFD_CLOEXEC);
    int r = 0;
    if (p->mem < 0 || ftruncate(p->mem, (off_t)WORKER_SHARED) ||
        (p->map = mmap(NULL, WORKER_SHARED, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, p->mem, 0)) == MAP_FAILED)
        r = mm_fail_errno(err, "cannot share memory with decoders");
    if (!r && !(p->program = find_program(o->program))) r = mm_fail(err, MM_ENOMEM, "out of memory");
    if (!r && access(p->program, X_OK)) r = mm_fail_errno(err, "cannot run '%s', which decodes media (MM_MEDIA says where it is)", p->program);
    for (int i = 0; i < p->n && !r; i++) {
        p->w[i].p = p;
        if (pthread_create(&p->w[i].thread, NULL, serve, &p->w[i])) r = mm_fail(err, MM_ENOMEM, "cannot start a thread");
        else p->w[i].started = 1;
    }
    if (r) mm_workers_close(&p);
    *out = p;
    return r;
}

int mm_workers_submit(mm_workers *p, mm_job *j, mm_err *err)
{
    size_t bytes = 0, i;
    for (int k = 0; k < j->n; k++) {
        size_t b = (mm_input_floats(&j->spec[k]) * sizeof(float) + 4095) / 4096 * 4096;
        if (!b) return mm_fail(err, MM_ENOMEM, "an input of this model is too large");
        if (b > bytes) bytes = b;
    }
    j->code = 0;
    j->chosen = -1;
    j->facts = (mm_input_facts){ 0 };
    j->message[0] = 0;
    j->next = NULL;
    j->bytes = bytes;
    for (i = p->n_free; i-- > 0;)
        if (p->free[i].bytes == bytes) break;
    if (i != (size_t)-1) {
        j->at = p->free[i].at;
        p->free[i] = p->free[--p->n_free];
    } else if (bytes > WORKER_SHARED - p->top) {
        return mm_fail(err, MM_ENOMEM, "out of memory for inputs");
    } else {
        j->at = p->top;
        p->top += bytes;
    }
    j->x = (float *)(void *)(p->map + j->at);
    pthread_mutex_lock(&p->lock);
    j->state = QUEUED;
    if (p->tail) p->tail->next = j;
    else p->head = j;
    p->tail = j;
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
    return 0;
}

void mm_workers_wait(mm_workers *p, mm_job *j)
{
    pthread_mutex_lock(&p->lock);
    while (j->state == QUEUED) pthread_cond_wait(&p->done, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

void mm_workers_release(mm_workers *p, mm_job *j)
{
    if (j->state == IDLE) return;
    j->state = IDLE;
    j->x = NULL;
    if (!j->bytes) return;
    if (p->n_free == p->cap_free) {
        void *q = mm_realloc(p->free, 2 * p->cap_free + 16, sizeof *p->free);
        if (!q) return; /* the memory is not used again: a loss, not an error */
        p->free = q;
        p->cap_free = 2 * p->cap_free + 16;
    }
    p->free[p->n_free].at = j->at;
    p->free[p->n_free++].bytes = j->bytes;
}

void mm_workers_close(mm_workers **pp)
{
    mm_workers *p = *pp;
    if (!p) return;
    pthread_mutex_lock(&p->lock);
    p->quit = 1;
    for (int i = 0; i < p->n; i++)
        if (p->w[i].pid) kill(p->w[i].pid, SIGKILL); /* a thread that waits for an answer wakes by that */
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->n; i++) {
        if (p->w[i].started) pthread_join(p->w[i].thread, NULL);
        if (p->w[i].pid) stop(&p->w[i], 1);
    }
    if (p->map != MAP_FAILED) munmap(p->map, WORKER_SHARED);
    if (p->mem >= 0) close(p->mem);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->done);
    pthread_mutex_destroy(&p->lock);
    free(p->free);
    free(p->program);
    free(p);
    *pp = NULL;
}
