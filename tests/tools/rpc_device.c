/* rpc_device LIB_DIR HOST:PORT BACKEND_DIR - offers this machine's CPU as a ggml RPC device, which llama.cpp takes for a GPU.
   Debian ships the RPC backend without a server program. */
#include <dlfcn.h>
#include <stdio.h>

static void *need(void *library, const char *what) {
  void *found = library ? dlsym(library, what) : dlopen(what, RTLD_NOW | RTLD_GLOBAL);
  if (!found) fprintf(stderr, "%s\n", dlerror());
  return found;
}

int main(int argc, char **argv) {
  char path[4096];
  if (argc != 4) return 2;
  snprintf(path, sizeof path, "%s/libggml.so.0", argv[1]);
  void *ggml = need(0, path);
  if (!ggml) return 1;
  void (*load)(const char *) = need(ggml, "ggml_backend_load_all_from_path");
  void *(*by_type)(int) = need(ggml, "ggml_backend_dev_by_type");
  snprintf(path, sizeof path, "%s/ggml/backends0/libggml-rpc.so", argv[1]);
  void *rpc = need(0, path);
  if (!load || !by_type || !rpc) return 1;
  void (*start)(const char *, const char *, size_t, size_t, void **) = need(rpc, "ggml_backend_rpc_start_server");
  if (!start) return 1;
  load(argv[3]);
  void *devices[1] = {by_type(0)};
  start(argv[2], 0, 1, 1, devices);
  return 0;
}
