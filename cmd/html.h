/* html.h - the pages that filters write: text made safe, data inside the page, one style for all. What is written is HTML5 that is also
 * well-formed XML, so that both kinds of tools read it. All append to a buffer and leave errors in it (mm_buf.failed). */
#ifndef MM_CMD_HTML_H
#define MM_CMD_HTML_H

#include <stddef.h>
#include "base/mm_mem.h"

/* From <!DOCTYPE> to <main>: title is text. The page is told to load nothing from anywhere and to run no script. css: rules beside
 * the common ones, or NULL. */
void mm_html_head(mm_buf *b, const char *title, size_t len, const char *css);
/* From </main> on. note: text of the footer. */
void mm_html_foot(mm_buf *b, const char *note);
/* Text for between tags and for values in double quotes: & < > " ' become entities; what HTML does not allow (control characters,
 * noncharacters, invalid UTF-8) becomes U+FFFD. More than `most` characters (0: no limit) are cut, and end in an ellipsis. */
void mm_html_text(mm_buf *b, const char *s, size_t len, size_t most);
/* A file name as the value of href: relative or absolute, never another scheme. */
void mm_html_path(mm_buf *b, const char *path);
/* data:MIME;base64,... */
void mm_html_data(mm_buf *b, const char *mime, const void *p, size_t len);

#endif
