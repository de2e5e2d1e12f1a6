"""Who asks, and what they may: keys, where they are kept, and what each is good for.

``caller``: Who sent a request
``key_file``: ``secrets/keys.json``: all keys of a data folder, read again whenever it changes
``keys``: Keys: how one reads, what is kept of it, and how one that is sent is found among them
``ledger``: What each key has used, and may still use: a small file a key, which all workers and the runner change in
    turns
``meter``: The tokens of answers, told to the ledger for whoever the work at hand is for
``once``: Requests that may have their effect once, however often they are sent: by their ``Idempotency-Key``
``scopes``: What a key may be good for
``slots``: How many answers of a key are under way at once: each holds a locked file, among all workers
"""
