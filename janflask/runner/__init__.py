"""The runner process: it carries out runs, which outlive their clients.

``__main__``: The runner (``python -m janflask.runner``), one a server: makes threads answer, whoever listens
``compacting``: A run whose prompt is too long has what is older summed up before it answers
``events``: What a model says, as a run's log holds it
``execution``: One run, from queued to final
``happened``: Whether a change came to be that a process was killed over: its object tells
``live``: A run under way: how it is, its events, who listens, and how it is halted
``loading``: The runner's own code, imported a moment after the server's start: the process listens long before
``runner``: Every run under way, each in a thread of its own
``server``: What the runner answers on its socket
``titles``: A thread's title out of what its user says first
"""
