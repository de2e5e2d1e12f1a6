"""What the processes beside gunicorn's workers have in common: birth, sockets, end.

``launcher``: gunicorn's master starts supervisor and runner and keeps them up: the hooks of the configuration. Light on
    imports
``lifeline``: No process of ours outlives the one that started it. Standard library only
``questions``: A process's socket: one thread a connection, one question a connection, and the replies to it
``restart``: How soon, and how often, a process that died is started again: the one policy for all that this server
    keeps up
``runtime_dir``: The private folder where a server's processes meet: their sockets, a lock, and what the supervisor
    remembers
``service``: What every process beside the workers does from its first line to its last
"""
