/* automaton.h - inside grammars: what the walk keeps. See automaton.c. */
#ifndef GEN_AUTOMATON_H
#define GEN_AUTOMATON_H
struct mm_grammar;
struct automaton *automaton_new(struct mm_grammar *g); /* NULL: no memory */
void automaton_free(struct automaton *a);
#endif
