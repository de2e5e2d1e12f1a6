"""A model on disk: its folder, its GGUF, its settings, and the memory that it needs.

``card``: What ``model.json`` says of a model on disk, as the catalog reads it
``catalog``: Which models are on disk: ``models/<id>/model.json`` in Jan's layout, read leniently. Standard library only
``default_layout``: How the conversations of a model are laid out whose file has no chat template: which words it takes,
    what to say
``description``: Describes a model in Jan's format: what its files say of themselves, where they came from, how it is to
    be run
``engine_info``: What an engine tells of itself: how it runs, and how busy it is
``engine_settings``: What an engine is started with: a request's settings over the model's over the server's, checked
    and typed
``folder_ids``: Ids for model folders whose names are none: Jan takes any name, with spaces, brackets or letters of any
    language
``gguf_files``: What can be said of a model's files before llama.cpp is asked to load them
``gguf_header``: Reads what a GGUF says of itself: its key/value pairs and where its tensors lie. Streams; every length
    has a limit
``json_bodies``: What JSON from elsewhere may hold: so deep, and so many values, that neither memory nor what follows it
    suffers
``json_words``: What JSON calls its values, for people. Standard library only
``known_fields``: Fields of requests that other servers know: those with another name here, and those that cannot be had
    here
``latencies``: What an engine counts of its requests' times, and how finely: the one table, for who counts and who tells
``memory_estimate``: How much memory a model will take, told from its header alone: weights, KV cache, and what
    computing needs
``memory_shape``: What a model keeps of a conversation, told layer by layer from its header: the numbers of keys, values
    and states
``model_files``: Which files in a model's folder are its weights, and which only lie beside them in the same format
``parameters``: Inference parameters as they are found: in ``model.json``, ``assistant.json``, ``thread.json``, a run,
    an import
``publish``: Makes a model out of files: writes its ``model.json``, and shows the whole to others in one step
``sampling``: How a token is chosen, and which values may be asked for
``split_names``: The files of a split model, told by their names: ``NAME-00001-of-00003.gguf`` and those that follow it
``state``: How a model is: on disk, on its way there, running; and what asks for it to be fetched
``tensor_types``: How ggml's tensor types lay weights out: the table of the ``gguf`` package, without the NumPy that
    comes with it
``upstream``: A model that another server runs: the ``upstream`` table of its ``model.json``
``upstream_entry``: The ``model.json`` of a model that another server runs
``upstream_health``: How the servers of an upstream are, as far as this process knows
``upstream_key``: The key of an upstream, read when it is sent: it is in no object that could be shown, logged or stored
"""
