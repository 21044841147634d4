/* flaky_httpd FOLDER - a web server for tests, on 127.0.0.1 only; prints its port. It serves FOLDER with Range, badly on purpose:
 *   /drop/PATH   closes the connection after at most 1000 bytes a request
 *   /stuck/PATH  the same, and ignores Range
 *   /wrong/PATH  other bytes of the same length
 *   /err/PATH    500 for the first two requests, then the file
 *   anything else: the file, or 404. Ends when its standard input does. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int requests;

static void answer(int fd, const char *folder)
{
    char req[4096], path[1024] = "", file[2048];
    size_t n = 0;
    ssize_t got;
    while (n < sizeof req - 1 && (got = read(fd, req + n, sizeof req - 1 - n)) > 0) {
        n += (size_t)got;
        req[n] = 0;
        if (strstr(req, "\r\n\r\n")) break;
    }
    req[n] = 0;
    if (sscanf(req, "GET %1023s", path) != 1 || strstr(path, "..")) return;
    const char *mode = path, *rest = strchr(path + 1, '/');
    int drop = !strncmp(mode, "/drop/", 6), stuck = !strncmp(mode, "/stuck/", 7), wrong = !strncmp(mode, "/wrong/", 7),
        err = !strncmp(mode, "/err/", 5);
    snprintf(file, sizeof file, "%s%s", folder, (drop || stuck || wrong || err) && rest ? rest : path);
    const char *range = strstr(req, "Range: bytes=");
    long from = range && !stuck ? strtol(range + 13, NULL, 10) : 0;
    if (err && requests++ < 2) {
        dprintf(fd, "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    }
    int f = open(file, O_RDONLY);
    struct stat st;
    if (f < 0 || fstat(f, &st) || !S_ISREG(st.st_mode)) {
        dprintf(fd, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        if (f >= 0) close(f);
        return;
    }
    long size = (long)st.st_size;
    if (from > 0 && from >= size) {
        dprintf(fd, "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        close(f);
        return;
    }
    if (from > 0)
        dprintf(fd, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes %ld-%ld/%ld\r\n", from, size - 1, size);
    else
        dprintf(fd, "HTTP/1.1 200 OK\r\n");
    dprintf(fd, "Content-Length: %ld\r\nAccept-Ranges: bytes\r\nConnection: close\r\n\r\n", size - from);
    long most = drop || stuck ? 1000 : size;
    char buf[4096];
    if (lseek(f, from, SEEK_SET) < 0) most = 0;
    while (most > 0 && (got = read(f, buf, sizeof buf < (size_t)most ? sizeof buf : (size_t)most)) > 0) {
        if (wrong) buf[0] ^= 1;
        if (write(fd, buf, (size_t)got) != got) break;
        most -= got;
    }
    close(f);
}

int main(int argc, char **argv)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof a;
    int s = socket(AF_INET, SOCK_STREAM, 0);
    signal(SIGPIPE, SIG_IGN);
    if (argc != 2 || s < 0 || bind(s, (struct sockaddr *)&a, sizeof a) || listen(s, 8) || getsockname(s, (struct sockaddr *)&a, &len)) {
        perror("flaky_httpd");
        return 4;
    }
    printf("%d\n", ntohs(a.sin_port));
    fflush(stdout);
    for (;;) {
        struct pollfd p[2] = { { .fd = s, .events = POLLIN }, { .fd = 0, .events = POLLIN } };
        char c;
        if (poll(p, 2, -1) < 0) return 4;
        if (p[1].revents && read(0, &c, 1) <= 0) return 0;
        if (!p[0].revents) continue;
        int fd = accept(s, NULL, NULL);
        if (fd < 0) continue;
        answer(fd, argv[1]);
        shutdown(fd, SHUT_WR);
        close(fd);
    }
}
