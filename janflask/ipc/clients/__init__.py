"""Asking each of the processes.

``engine``: Asking an engine: one connection is one generation, or one question
``runner``: Asking the runner
``supervisor``: Asking the supervisor
"""
