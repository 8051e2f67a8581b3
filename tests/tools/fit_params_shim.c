/* Sets what llama-fit-params has no flag for: rows of logits, sequences, one KV cache for all of them.
   The parameters travel by value as bytes: offsets of b11669. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
struct bytes { char b[168]; };
typedef void *(*init)(void *, struct bytes);
void *llama_init_from_model(void *model, struct bytes p) {
  unsigned n; char *e;
  if ((e = getenv("NSEQ")) && atoi(e)) { n = atoi(e); memcpy(p.b + 12, &n, 4); }
  if ((e = getenv("NOUT")) && atoi(e)) { n = atoi(e); memcpy(p.b + 20, &n, 4); }
  if ((e = getenv("UNI"))) p.b[141] = atoi(e) != 0;
  return ((init)dlsym(RTLD_NEXT, "llama_init_from_model"))(model, p);
}
