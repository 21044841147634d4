# chainlint.awk - prints the statements of a test's script whose failure `set -e` does not see: a && b, or ! a, with more after it.
# Right are: one chain to the end, a && b || exit 1, a && exit 1, if a && b; and one command a line. A chain that ends in { }, ( ) or a
# loop is not followed further.
{ s = s $0 "\n" }
END {
    n = length(s)
    for (i = 1; i <= n; i++) { # t: s with quoted text, $( ) and comments blanked, at the same places
        c = substr(s, i, 1)
        if (c == "\\") { t = t (substr(s, ++i, 1) == "\n" ? "  " : "xx"); continue }
        if (c == "'") { do t = t "x"; while (substr(s, ++i, 1) != "'" && i <= n); t = t "x"; continue }
        if (c == "\"") {
            do { if (substr(s, i, 1) == "\\") { t = t "x"; i++ } t = t "x" } while (substr(s, ++i, 1) != "\"" && i <= n)
            t = t "x"; continue
        }
        if (c == "$" && substr(s, i + 1, 1) == "(") { depth++; t = t "x"; i++ }
        else if (depth && c == "(") open++
        else if (depth && c == ")") { if (open) open--; else depth--; c = "x" }
        else if (!depth && c == "#" && (i == 1 || substr(s, i - 1, 1) ~ /[ \n;]/)) {
            while (substr(s, i, 1) != "\n") { t = t " "; i++ }
            c = "\n"
        }
        t = t (depth ? "x" : c)
    }
    for (i = 1; i <= n; i++) {
        c = substr(t, i, 1)
        if (c == "&" && substr(t, i + 1, 1) == "&") { chain = ++i; join = 1; rescue = 0; continue }
        if (c == "|") { join = 1; if (substr(t, i + 1, 1) == "|") { i++; rescue = 1 } continue }
        if (c == "&" && substr(t, i - 1, 1) ~ /[<>]/) continue
        if (c == ")" || c == ";" || c == "&" || (c == "\n" && !join)) { statement(i, c); continue }
        if (c ~ /[ \n]/) continue
        if (!begin || join) {
            if (match(substr(t, i, 6), begin ? "^([{(]|for |while |until |if |case )" : "^(then |do |else |[{(])")) {
                i += RLENGTH - 1
                begin = chain = join = 0
                continue
            }
            if (!begin) begin = i
        }
        join = 0
    }
}
function statement(i, c) {
    if (begin && (chain > begin || substr(t, begin, 2) == "! ") && !rescue && c != ")" &&
        substr(t, begin, 6) !~ /^(if|elif|while|until) / && substr(t, chain + 1, i - chain) !~ /^[ \n]*(exit|return|continue|break)/ &&
        substr(t, i) !~ /^[ \n;]*((fi|[)}])[ \n;]*)*$/)
        print substr(s, begin, i - begin)
    begin = chain = rescue = join = 0
}
