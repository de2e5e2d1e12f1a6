"""Connections of a gunicorn worker: no client, slow or in a crowd, keeps the threads from the others.

``connection``: One client's connection: its request's head is read as it comes, without a thread that waits for it
``crowd``: How many connections each address has
``handshakes``: The way of a new connection to HTTPS, in a worker's own poll: a client that takes its time holds no
    thread
``refusals``: What is told to a client whose request is no HTTP, or never became one
``secured``: gunicorn's threaded worker where it speaks HTTPS: a connection holds a thread from when its request is
    there
``worker``: gunicorn's threaded worker, which no client can hold up
"""
