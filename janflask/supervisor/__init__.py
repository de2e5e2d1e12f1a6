"""The supervisor process: downloads, and which models run in the memory that there is.

``__main__``: The supervisor process: ``python -m janflask.supervisor``, one a server
``admission``: Making room: a model starts only when what it needs fits beside the others; the longest-idle ones give
    way to it
``budget``: The ledger of memory: who holds how much of what the models may take together. Estimates, not measurements
``demand``: What memory one start asks for, at each number of conversations that would do
``desired_state``: Remembers which models run, for the supervisor that comes after this one
``engine_process``: One engine process, from its birth to its death, as the supervisor sees it
``fetching``: The downloads, whose code is imported when there is something to fetch: a server's start does not wait for
    it
``idle``: Stops models that nobody has asked anything for a while
``launch``: What a model is started with, and how one of its engines ended
``machine_memory``: How much memory the models may take on this machine: of its RAM, and of its GPUs where llama.cpp can
    use them
``model_process``: One model under supervision: the state machine of its engine, and when a dead engine is started again
``readiness``: Which models have to run before the server is ready: those that a setting names, and those that are
    restored
``server``: What the supervisor answers on its socket
``spare``: One engine process made ahead of need: it has loaded its code and waits to be told which model
``supervisor``: Starts, stops and watches the engines
``watchdog``: Ends engines that hang: those that do not answer, or whose loop does not come round although there is work
"""
