/* Buffers of llama.cpp that are cleared by giving their pages back instead of writing zeros to them.
 *
 * ggml's own clear writes to every byte of a new KV cache, and so makes every page of it resident before a token is
 * computed. Memory that the system hands out is zero already: here a clear gives whole pages back (MADV_DONTNEED), and the
 * system gives zeros again where they are touched. Only private anonymous memory behaves so, which is what ggml's buffers
 * in RAM are made of; a self-test at import looks.
 *
 * The structs are those of ggml/src/ggml-backend-impl.h as shipped with llama-cpp-python 0.3.36; nothing is included or
 * linked at build time (see pages.pyx).
 */
#ifndef JANFLASK_PAGES_KERNELS_H
#define JANFLASK_PAGES_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JF_NAME 64 /* GGML_MAX_NAME */

typedef void (*jf_function)(void); /* one that is never called here */

struct jf_buffer;

typedef struct {
    const char *(*get_name)(void *type);
    struct jf_buffer *(*alloc_buffer)(void *type, size_t size);
    size_t (*get_alignment)(void *type);
    size_t (*get_max_size)(void *type);
    jf_function get_alloc_size;
    jf_function is_host;
    void *device;
    void *context;
} jf_buffer_type;

typedef struct jf_buffer {
    jf_function free_buffer;
    void *(*get_base)(struct jf_buffer *buffer);
    int (*init_tensor)(struct jf_buffer *buffer, void *tensor);
    jf_function memset_tensor;
    jf_function set_tensor;
    jf_function get_tensor;
    jf_function set_tensor_2d;
    jf_function get_tensor_2d;
    jf_function cpy_tensor;
    void (*clear)(struct jf_buffer *buffer, uint8_t value);
    jf_function reset;
    jf_buffer_type *type;
    void *context;
    size_t size;
    int usage;
} jf_buffer;

/* What pages.pyx takes from the loaded library. */
typedef struct {
    jf_buffer_type *(*cpu_buffer_type)(void);
    const char *(*get_name)(const void *tensor);
    void *(*get_data)(const void *tensor);
    size_t (*nbytes)(const void *tensor);
} jf_ggml;

/* A part of a context's KV memory: a tensor, or one sequence's part of it. */
typedef struct {
    char name[JF_NAME];
    uintptr_t address;
    size_t bytes;
} jf_note;

typedef struct {
    jf_note *items;
    size_t count, capacity;
    size_t buffers;   /* that were made lazy */
    bool out_of_memory; /* a note is missing */
} jf_notes;

/* Whether this platform has what is needed at all. */
bool jf_pages_supported(void);

/* Where a symbol or a function lies: the loaded library's start, 0 if in none. */
uintptr_t jf_library_of(const void *address);

/* From now on, until jf_pages_end, the buffers in RAM that *this thread* has llama.cpp make are lazy, and its KV tensors are
 * noted. One thread at a time: the caller holds a lock. */
void jf_pages_begin(const jf_ggml *ggml, jf_notes *notes);
void jf_pages_end(const jf_ggml *ggml);

/* Zeros, by giving whole pages back; what surrounds them, or what the system does not take, is written. Returns the bytes
 * that were given back. */
size_t jf_pages_zero(void *address, size_t bytes);

/* Bytes of whole pages in the range that are in RAM now; -1 where the system does not say. */
ptrdiff_t jf_pages_resident(const void *address, size_t bytes);

#endif
