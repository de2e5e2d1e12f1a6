/*
 * What dots_kernels.c and rows_kernels.c have in common: ggml's structs, and the table of its library for CPUs, where
 * functions of ours take the place of its own.
 *
 * The structs are those of llama-cpp-python 0.3.36; nothing is included or linked at build time. Who includes this has
 * _GNU_SOURCE defined, for dl_iterate_phdr.
 */
#ifndef JANFLASK_GGML_HOOKS_H
#define JANFLASK_GGML_HOOKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ggml_tensor, of ggml.h, as far as it is read. */
typedef struct jf_tensor {
    int type;
    void *buffer;
    int64_t ne[4];
    size_t nb[4];
    int op;
    int32_t op_params[16];
    int32_t flags;
    struct jf_tensor *src[10];
    struct jf_tensor *view_src;
    size_t view_offs;
    char *data;
} jf_tensor;

/* ggml_compute_params, of ggml-cpu-impl.h. */
typedef struct {
    int ith, nth;
    size_t wsize;
    char *wdata;
    void *threadpool;
    bool use_ref;
} jf_params;

/* A function that the library calls through its table. */
typedef struct {
    const char *name;
    void *ours;
    void **original; /* where the library's own goes */
    bool needed;
    void **place; /* in the table; NULL: it is not called through it */
} jf_hook;

#if defined(__linux__) && defined(__LP64__) && (defined(__x86_64__) || defined(__aarch64__))

#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__x86_64__)
enum { JF_SLOT = R_X86_64_JUMP_SLOT, JF_GLOBAL = R_X86_64_GLOB_DAT };
#else
enum { JF_SLOT = R_AARCH64_JUMP_SLOT, JF_GLOBAL = R_AARCH64_GLOB_DAT };
#endif

typedef struct {
    uintptr_t inside;
    jf_hook *hooks;
    size_t count;
    uintptr_t protected_from, protected_to; /* made read-only once the table was filled */
    bool found;
} jf_search;

static void jf_look_through(jf_search *at, uintptr_t base, const Elf64_Rela *relocations, size_t size,
                            const Elf64_Sym *symbols, const char *names) {
    for (size_t i = 0; i < size / sizeof *relocations; i++) {
        const unsigned type = (unsigned)ELF64_R_TYPE(relocations[i].r_info);
        const Elf64_Sym *symbol = symbols + ELF64_R_SYM(relocations[i].r_info);
        if ((type != JF_SLOT && type != JF_GLOBAL) || symbol->st_shndx == SHN_UNDEF)
            continue;
        for (size_t j = 0; j < at->count; j++)
            if (strcmp(names + symbol->st_name, at->hooks[j].name) == 0) {
                at->hooks[j].place = (void **)(base + relocations[i].r_offset);
                *at->hooks[j].original = (void *)(base + symbol->st_value);
            }
    }
}

static bool jf_holds(const struct dl_phdr_info *library, uintptr_t address) {
    for (int i = 0; i < library->dlpi_phnum; i++) {
        const Elf64_Phdr *part = &library->dlpi_phdr[i];
        const uintptr_t start = library->dlpi_addr + part->p_vaddr;
        if (part->p_type == PT_LOAD && address >= start && address - start < part->p_memsz)
            return true;
    }
    return false;
}

static int jf_look(struct dl_phdr_info *library, size_t size, void *search) {
    jf_search *at = search;
    const Elf64_Dyn *entry = NULL;
    const uintptr_t base = library->dlpi_addr;
    const Elf64_Sym *symbols = NULL;
    const char *names = NULL;
    const Elf64_Rela *calls = NULL, *others = NULL;
    size_t calls_size = 0, others_size = 0;
    (void)size;
    if (!jf_holds(library, at->inside))
        return 0;
    for (int i = 0; i < library->dlpi_phnum; i++) {
        const Elf64_Phdr *part = &library->dlpi_phdr[i];
        if (part->p_type == PT_DYNAMIC)
            entry = (const Elf64_Dyn *)(base + part->p_vaddr);
        if (part->p_type == PT_GNU_RELRO) {
            at->protected_from = base + part->p_vaddr;
            at->protected_to = at->protected_from + part->p_memsz;
        }
    }
    for (; entry != NULL && entry->d_tag != DT_NULL; entry++) {
        const uintptr_t value = entry->d_un.d_ptr; /* glibc has made an address of it, musl has left an offset */
        const void *there = (const void *)(value < base ? base + value : value);
        switch (entry->d_tag) {
        case DT_SYMTAB: symbols = there; break;
        case DT_STRTAB: names = there; break;
        case DT_JMPREL: calls = there; break;
        case DT_PLTRELSZ: calls_size = value; break;
        case DT_RELA: others = there; break;
        case DT_RELASZ: others_size = value; break;
        default: break;
        }
    }
    if (symbols == NULL || names == NULL)
        return 1;
    at->found = true;
    if (others != NULL)
        jf_look_through(at, base, others, others_size, symbols, names);
    if (calls != NULL)
        jf_look_through(at, base, calls, calls_size, symbols, names);
    return 1;
}

static bool jf_write_to(const jf_search *at, void **place, void *value) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t start = (uintptr_t)place / page * page;
    /* What lies in the part's whole pages is read-only by now. */
    const bool is_protected = (uintptr_t)place >= at->protected_from && (uintptr_t)place < at->protected_to / page * page;
    if (is_protected && mprotect((void *)start, page, PROT_READ | PROT_WRITE) != 0)
        return false;
    __atomic_store_n(place, value, __ATOMIC_SEQ_CST);
    return !is_protected || mprotect((void *)start, page, PROT_READ) == 0;
}

/* Puts ours in the table of the library that ``inside`` lies in. NULL: done; else what is missing. */
static const char *jf_put(const void *inside, jf_hook *hooks, size_t count) {
    jf_search at = {(uintptr_t)inside, hooks, count, 0, 0, false};
    (void)dl_iterate_phdr(jf_look, &at);
    if (!at.found)
        return "ggml's library for CPUs was not found";
    for (size_t i = 0; i < count; i++)
        if (hooks[i].place == NULL && hooks[i].needed)
            return "ggml's library calls its functions directly";
    for (size_t i = 0; i < count; i++)
        if (hooks[i].place != NULL && !jf_write_to(&at, hooks[i].place, hooks[i].ours))
            return "the table of what ggml's library calls cannot be written";
    return NULL;
}

#else

static const char *jf_put(const void *inside, jf_hook *hooks, size_t count) {
    (void)inside, (void)hooks, (void)count;
    return "only on Linux, on x86-64 and ARM64";
}

#endif

#endif
