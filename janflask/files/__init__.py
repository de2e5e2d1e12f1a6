"""Files that survive, ids that are never paths, one writer at a time: what everything that writes stands on.

``by_path``: Replacing and syncing files by their paths: outside of the store, where a folder may be a link of the
    owner's
``disk``: Files that survive: what was written is on disk, whole files change in one step, no symbolic link is followed
``disk_use``: How much of the disk some folders take
``ids``: Ids: what may be one, and new ones that sort by the time of their making
``kv_folder``: Where KV states lie on disk: ``cache/kv/<model>/<name>.kv``, the name made of a conversation's, or of the
    tokens
``locks``: One writer at a time for each object, among threads and among processes, and nobody waits for ever
``private``: A file with secrets is read only if it is its user's alone
``secret_key``: A secret of the data folder: 32 random bytes in a file of its own, readable by its user alone
``secrets_file``: A file of secrets that any number of processes read and change, read again whenever it changes
``wal``: SQLite's write-ahead log, in which readers and a writer do not wait for each other
"""
