"""What the processes beside gunicorn's workers have in common: birth, sockets, end.

``allocator``: What glibc's allocator is told in the server's processes; another allocator does not hear it
``drain``: How the server leaves at SIGTERM: no longer ready, then no longer listening, then what is under way ends
``exposure``: A server without keys is for its own machine: what it is to listen on is looked at before anything of it
    runs
``https``: HTTPS in gunicorn's processes: the certificate, from before the first worker to the last look at its files
``launcher``: gunicorn's master starts supervisor and runner and keeps them up: the hooks of the configuration. Light on
    imports
``lifeline``: No process of ours outlives the one that started it. Standard library only
``logs``: How every process writes its log: lines for people, or a JSON object a line. Standard library only
``looks``: How often those who wait for news look whether somebody listens to them still
``open_files``: How many files and sockets the processes of a server may have open: an open stream takes two of a
    worker's
``proxied``: What gunicorn has to know of proxies in front: whom to believe; and which requests are below their paths
``questions``: A process's socket: one thread a connection, one question a connection, and the replies to it
``restart``: How soon, and how often, a process that died is started again: the one policy for all that this server
    keeps up
``runtime_dir``: The private folder where a server's processes meet: their sockets, a lock, and what the supervisor
    remembers
``service``: What every process beside the workers does from its first line to its last
"""
