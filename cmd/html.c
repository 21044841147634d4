#include "cmd/html.h"
#include <string.h>
#include "base/mm_str.h"

static const char style[] =
    ":root{color-scheme:light dark;--page:#f5f4f0;--card:#fff;--ink:#1c1d20;--soft:#686a71;--line:#e2e0d9;--accent:#1f7a70;"
    "--pale:#e4efed;--bad:#a8321f;--badpage:#f9e9e5}\n"
    "@media(prefers-color-scheme:dark){:root{--page:#131417;--card:#1d1f23;--ink:#ececef;--soft:#9b9da6;--line:#2e3138;--accent:#62c4b6;"
    "--pale:#1f3431;--bad:#ff9a86;--badpage:#35201c}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--page);color:var(--ink);"
    "font:15px/1.45 system-ui,\"Segoe UI\",\"Helvetica Neue\",\"Noto Sans\",\"DejaVu Sans\",sans-serif}\n"
    "main,.top,.end{max-width:78rem;margin:0 auto;padding:0 1.5rem}\n"
    ".top{padding-top:2rem}\n"
    "h1{margin:0;font-size:1.05rem;font-weight:600;color:var(--soft);letter-spacing:.01em}\n"
    ".end{padding-top:1rem;padding-bottom:2.5rem;color:var(--soft);font-size:.85rem}\n";

static int not_allowed(uint32_t c)
{
    if (c < 0x20) return c != '\t' && c != '\n';
    return c == 0xFFFD || (c >= 0x7F && c < 0xA0) || (c >= 0xFDD0 && c <= 0xFDEF) || (c & 0xFFFE) == 0xFFFE;
}

void mm_html_text(mm_buf *b, const char *s, size_t len, size_t most)
{
    size_t n = 0;
    for (size_t i = 0; i < len; n++) {
        uint32_t c;
        int k = mm_utf8_get(s + i, len - i, &c);
        if (most && n == most) {
            mm_buf_adds(b, "\xE2\x80\xA6");
            return;
        }
        if (c == '&') mm_buf_adds(b, "&amp;");
        else if (c == '<') mm_buf_adds(b, "&lt;");
        else if (c == '>') mm_buf_adds(b, "&gt;");
        else if (c == '"') mm_buf_adds(b, "&quot;");
        else if (c == '\'') mm_buf_adds(b, "&#39;");
        else if (not_allowed(c)) mm_buf_adds(b, "\xEF\xBF\xBD");
        else mm_buf_add(b, s + i, (size_t)k);
        i += (size_t)k;
    }
}

void mm_html_path(mm_buf *b, const char *path)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";
    /* "//host" would be another machine; "." and "/" in front of the rest make it a path */
    if (path[0] == '/' && path[1] == '/') mm_buf_adds(b, "/.");
    for (const char *p = path; *p; p++) {
        if (strchr(plain, *p)) mm_buf_addc(b, *p);
        else mm_buf_addf(b, "%%%02X", (unsigned char)*p);
    }
}

void mm_html_data(mm_buf *b, const char *mime, const void *p, size_t len)
{
    mm_buf_addf(b, "data:%s;base64,", mime);
    mm_base64_encode(b, p, len);
}

void mm_html_head(mm_buf *b, const char *title, size_t len, const char *css)
{
    mm_buf_adds(b, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
                   "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
                   "<meta http-equiv=\"Content-Security-Policy\" "
                   "content=\"default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'\"/>\n"
                   "<title>");
    mm_html_text(b, title, len, 120);
    mm_buf_addf(b, "</title>\n<style>\n%s%s</style>\n</head>\n<body>\n<header class=\"top\"><h1>", style, css ? css : "");
    mm_html_text(b, title, len, 0);
    mm_buf_adds(b, "</h1></header>\n<main>\n");
}

void mm_html_foot(mm_buf *b, const char *note)
{
    mm_buf_adds(b, "</main>\n<footer class=\"end\"><p>");
    mm_html_text(b, note, strlen(note), 0);
    mm_buf_adds(b, "</p></footer>\n</body>\n</html>\n");
}
