"""Cutting a run by mass or by count; see cuts.pyx."""

from janflask_ext.kernels cimport Row, Run, Shortlist, jf_bucket


# What a draw without a list works with; allocated once.
cdef struct Workspace:
    jf_bucket* buckets      # JF_BUCKETS
    double* block_mass      # of each block
    Shortlist* boundary     # the elements of the bucket in which a cut falls


# What a cut looks for, and how far it has come.
cdef struct Cut:
    float center
    bint both_sides         # of the center; else only what is at or below it
    bint by_count           # the target is a number of tokens; else it is mass, relative to exp(ref)
    bint strict             # > target, not >=
    double target
    double reached          # outside of the distances still in question
    float ref
    float near              # the distances still in question, both ends included
    float far


cdef bint make_cut(const Row* row, Run* run, Workspace* work, Cut* cut) noexcept nogil
