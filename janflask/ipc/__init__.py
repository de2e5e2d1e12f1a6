"""How the server's processes talk: frames over Unix sockets.

``channel``: A connected socket that frames go over, and asking a process of the server's own. Nothing waits without a
    limit
``frames``: What janflask's processes say to each other, and how it looks on a Unix stream socket
``outbox``: What is told to one peer by threads that must not wait for it
``request_id``: The id of the request that is being served, for the logs of every process that works on it
``shutdown``: Tells what would go on for long in this process that the process is about to end
``sockets``: The names of the processes' sockets in the runtime folder: for who need not know yet what is said there
``spent``: Where the time of one generation went, for who traces it. Nothing of what was asked or answered
"""
