"""The multiplication of Q4_1 weights with up to eight columns at once."""

Q4_1: int
Q8_1: int

def install() -> bool:
    """Puts the kernel in, once in a process, before anything is computed. False: llama.cpp's own stays."""

def used() -> int:
    """How many matrices were multiplied by it so far."""

def address_of(name: str) -> int:
    """The address of one of the library's functions; 0 where it shows none of the name."""

def traits(kind: int) -> int:
    """The address of a kind's entry in ggml's table (``ggml_type_traits_cpu``); 0 where the library shows none."""
