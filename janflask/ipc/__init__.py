"""How the server's processes talk: frames over Unix sockets.

``channel``: A connected socket that frames go over, and asking a process of the server's own. Nothing waits without a
    limit
``frames``: What janflask's processes say to each other, and how it looks on a Unix stream socket
``outbox``: What is told to one peer by threads that must not wait for it
``shutdown``: Tells what would go on for long in this process that the process is about to end
"""
