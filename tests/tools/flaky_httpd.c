/* flaky_httpd FOLDER LOG - an HTTP server on the loopback that misbehaves as told, for the tests of downloads.
 *
 * Prints its port and serves until killed (five minutes at most). The first part of a path is the manner, the rest a file of FOLDER:
 *   ok         as it should be, ranges included       wrong     one byte is another
 *   drop       closes after 1000 bytes of body        html      200 and a web page instead
 *   norange    drop, and knows no ranges              none      404
 *   long       says 100 bytes more than there are     dead      500, always
 *   short      says 100 bytes fewer than there are    busy      503 twice, then ok
 *   stall      sends 5000 bytes, then nothing         limit     429 once, then ok
 *   moved      302 to ok                              rot       wrong the first time, then ok
 *   slow       ok, but takes half a second               held      ok, when there is no file "hold" any more
 * LOG gets a line per request: manner, file, range. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int *counts; /* shared by the children: requests of busy, limit, rot */

static void send_all(int s, const char *p, size_t n)
{
    while (n) {
        ssize_t k = send(s, p, n, MSG_NOSIGNAL);
        if (k <= 0) _exit(0);
        p += k;
        n -= (size_t)k;
    }
}

__attribute__((format(printf, 2, 3))) static void sendf(int s, const char *fmt, ...)
{
    char b[1000];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(b, sizeof b, fmt, ap);
    va_end(ap);
    send_all(s, b, n < (int)sizeof b ? (size_t)n : sizeof b - 1);
}

static void fail(int s, const char *status) { sendf(s, "HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status); }

static void serve(int s, const char *folder, const char *log)
{
    char req[8192], manner[32], file[2000], path[4096];
    size_t n = 0;
    while (n < sizeof req - 1) { /* the whole head */
        ssize_t k = recv(s, req + n, sizeof req - 1 - n, 0);
        if (k <= 0) return;
        req[n += (size_t)k] = 0;
        if (strstr(req, "\r\n\r\n")) break;
    }
    if (sscanf(req, "GET /%31[^/ ]/%1999[^ ]", manner, file) != 2 || strstr(file, "..")) {
        fail(s, "400 Bad Request");
        return;
    }
    unsigned long from = 0;
    const char *range = strstr(req, "Range: bytes=");
    if (range) from = strtoul(range + 13, NULL, 10);
    FILE *l = fopen(log, "a");
    if (l) {
        fprintf(l, "%s %s %lu\n", manner, file, from);
        fclose(l);
    }
    int drop = !strcmp(manner, "drop") || !strcmp(manner, "norange"), stall = !strcmp(manner, "stall"), wrong = !strcmp(manner, "wrong");
    if (!strcmp(manner, "norange")) from = 0, range = NULL;
    if (!strcmp(manner, "slow")) usleep(500000);
    if (!strcmp(manner, "held"))
        while (access("hold", F_OK) == 0) usleep(20000);
    if (!strcmp(manner, "none")) { fail(s, "404 Not Found"); return; }
    if (!strcmp(manner, "dead")) { fail(s, "500 Internal Server Error"); return; }
    if (!strcmp(manner, "busy") && __atomic_fetch_add(&counts[0], 1, __ATOMIC_SEQ_CST) < 2) { fail(s, "503 Service Unavailable"); return; }
    if (!strcmp(manner, "limit") && __atomic_fetch_add(&counts[1], 1, __ATOMIC_SEQ_CST) < 1) { fail(s, "429 Too Many Requests"); return; }
    if (!strcmp(manner, "rot") && __atomic_fetch_add(&counts[2], 1, __ATOMIC_SEQ_CST) < 1) wrong = 1;
    if (!strcmp(manner, "html")) { sendf(s, "HTTP/1.1 200 OK\r\nContent-Length: 13\r\nConnection: close\r\n\r\n<html></html>"); return; }
    if (!strcmp(manner, "moved")) { sendf(s, "HTTP/1.1 302 Found\r\nLocation: /ok/%s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", file); return; }

    snprintf(path, sizeof path, "%s/%s", folder, file);
    FILE *f = fopen(path, "rb");
    if (!f) { fail(s, "404 Not Found"); return; }
    static char body[1 << 20];
    unsigned long size = fread(body, 1, sizeof body, f);
    fclose(f);
    if (range && from >= size) { fail(s, "416 Range Not Satisfiable"); return; }
    if (wrong) body[size / 2] ^= 1;
    unsigned long left = size - from, said = left;
    if (!strcmp(manner, "long")) said += 100;
    if (!strcmp(manner, "short")) said -= said < 100 ? said : 100;
    if (range) sendf(s, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes %lu-%lu/%lu\r\n", from, size - 1, size);
    else sendf(s, "HTTP/1.1 200 OK\r\n");
    sendf(s, "Content-Length: %lu\r\nConnection: close\r\n\r\n", said);
    send_all(s, body + from, drop && left > 1000 ? 1000 : stall && left > 5000 ? 5000 : left);
    if (stall) sleep(60);
}

int main(int argc, char **argv)
{
    if (argc != 3) return 2;
    alarm(300);
    signal(SIGCHLD, SIG_IGN);
    counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof a;
    if (counts == MAP_FAILED || s < 0 || bind(s, (struct sockaddr *)&a, sizeof a) || listen(s, 16) || getsockname(s, (struct sockaddr *)&a, &len)) {
        perror("flaky_httpd");
        return 4;
    }
    printf("%d\n", ntohs(a.sin_port));
    if (fclose(stdout)) return 4;
    for (;;) {
        int c = accept(s, NULL, NULL);
        if (c < 0) continue;
        pid_t pid = fork();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            close(s);
            alarm(300);
            serve(c, argv[1], argv[2]);
            shutdown(c, SHUT_WR);
            _exit(0);
        }
        close(c);
    }
}
