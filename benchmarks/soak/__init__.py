"""A server under mixed load for an hour: what fails, what grows, what is left: ``python -m benchmarks.soak``.

``world`` has the server, ``clients`` and ``activities`` those who use it, ``disturb`` what happens to it meanwhile.
``watch`` looks at its processes and files, ``growth`` says what of that is a growth, ``verdict`` sums up.
"""
