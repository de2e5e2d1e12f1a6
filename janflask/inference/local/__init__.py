"""A model that this server runs: one engine process, found or started, asked, and heard.

``backend``: ``LocalBackend``: a model that this server runs
``embedding``: Vectors from an engine
``engines``: Finding a model's engine, starting it if need be, and asking again while it is being replaced: the one
    policy
``generate``: What an engine is asked: a request with the model's own parameters behind it
``generation``: The generations of one API request, read as one stream of events
``reading``: The answers of one request as they come from an engine: each choice's text read, its thoughts counted
``watching``: What an engine has to see in a chat's answers: calls that begin, thoughts that are over, what holds from
    there
"""
