/* See pages_kernels.h. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* dladdr, madvise */
#endif

#include "pages_kernels.h"

#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

bool jf_pages_supported(void) { return true; }

uintptr_t jf_library_of(const void *address) {
    Dl_info info;
    return dladdr(address, &info) != 0 ? (uintptr_t)info.dli_fbase : 0;
}

/* The whole pages inside of a range; none: *first == *behind. */
static void whole_pages(uintptr_t address, size_t bytes, uintptr_t *first, uintptr_t *behind) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    *first = (address + page - 1) / page * page;
    *behind = (address + bytes) / page * page;
    if (*behind < *first) {
        *behind = *first;
    }
}

size_t jf_pages_zero(void *address, size_t bytes) {
    const uintptr_t start = (uintptr_t)address, end = start + bytes;
    uintptr_t first, behind;
    whole_pages(start, bytes, &first, &behind);
    if (first == behind || madvise((void *)first, behind - first, MADV_DONTNEED) != 0) {
        memset(address, 0, bytes);
        return 0;
    }
    memset(address, 0, first - start);
    memset((void *)behind, 0, end - behind);
    /* A huge page would make 2 MiB resident for a token; where the kernel has none, this fails and need not be said. */
    (void)madvise((void *)first, behind - first, MADV_NOHUGEPAGE);
    return behind - first;
}

ptrdiff_t jf_pages_resident(const void *address, size_t bytes) {
    enum { STEP = 1024 };
    unsigned char present[STEP];
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first, behind;
    ptrdiff_t found = 0;
    whole_pages((uintptr_t)address, bytes, &first, &behind);
    while (first < behind) {
        const size_t count = (behind - first) / page < STEP ? (behind - first) / page : STEP;
        if (mincore((void *)first, count * page, present) != 0) {
            return -1;
        }
        for (size_t i = 0; i < count; i++) {
            found += (present[i] & 1) != 0 ? (ptrdiff_t)page : 0;
        }
        first += count * page;
    }
    return found;
}

#else

bool jf_pages_supported(void) { return false; }

uintptr_t jf_library_of(const void *address) {
    (void)address;
    return 0;
}

size_t jf_pages_zero(void *address, size_t bytes) {
    memset(address, 0, bytes);
    return 0;
}

ptrdiff_t jf_pages_resident(const void *address, size_t bytes) {
    (void)address;
    (void)bytes;
    return -1;
}

#endif

/* Set while this thread makes a context; other threads' buffers stay as they are meanwhile. */
static __thread jf_notes *making = NULL;
static __thread const jf_ggml *calls = NULL;

static jf_buffer *(*original_alloc)(void *type, size_t size) = NULL;

static void lazy_clear(jf_buffer *buffer, uint8_t value) {
    buffer->init_tensor = NULL; /* as ggml made it: all that the buffer is for has been placed, and noted */
    if (value == 0) {
        (void)jf_pages_zero(buffer->context, buffer->size);
    } else {
        memset(buffer->context, value, buffer->size);
    }
}

static void note(const void *tensor) {
    const char *name = calls->get_name(tensor);
    if (strncmp(name, "cache_", 6) != 0) {
        return;
    }
    if (making->count == making->capacity) {
        const size_t capacity = making->capacity ? 2 * making->capacity : 256;
        jf_note *items = realloc(making->items, capacity * sizeof(jf_note));
        if (items == NULL) {
            making->out_of_memory = true;
            return;
        }
        making->items = items;
        making->capacity = capacity;
    }
    jf_note *item = &making->items[making->count++];
    strncpy(item->name, name, JF_NAME - 1);
    item->name[JF_NAME - 1] = '\0';
    item->address = (uintptr_t)calls->get_data(tensor);
    item->bytes = calls->nbytes(tensor);
}

/* ggml calls it for every tensor that it places. A KV cache's come before its buffer is cleared; a graph's, in a buffer for
 * computing, when the context has been made. */
static int noting_init_tensor(jf_buffer *buffer, void *tensor) {
    if (making == NULL) {
        buffer->init_tensor = NULL;
    } else {
        note(tensor);
    }
    return 0; /* GGML_STATUS_SUCCESS */
}

static jf_buffer *lazy_alloc(void *type, size_t size) {
    jf_buffer *buffer = original_alloc(type, size);
    if (buffer != NULL && making != NULL && buffer->size > 0 && buffer->init_tensor == NULL) {
        buffer->clear = lazy_clear;
        buffer->init_tensor = noting_init_tensor;
        making->buffers++;
    }
    return buffer;
}

void jf_pages_begin(const jf_ggml *ggml, jf_notes *notes) {
    jf_buffer_type *type = ggml->cpu_buffer_type();
    calls = ggml;
    making = notes;
    original_alloc = type->alloc_buffer;
    type->alloc_buffer = lazy_alloc;
}

void jf_pages_end(const jf_ggml *ggml) {
    /* original_alloc stays: a thread that makes a buffer just now may be on its way through lazy_alloc. */
    ggml->cpu_buffer_type()->alloc_buffer = original_alloc;
    making = NULL;
    calls = NULL;
}
