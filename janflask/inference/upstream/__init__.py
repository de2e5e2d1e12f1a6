"""Models that an OpenAI-compatible server elsewhere runs.

``address``: A base URL: where an upstream listens, and its routes
``answers``: What upstreams answer, as far as it is read: unknown fields are passed over, wrong types are an error
``backend``: A model that an OpenAI-compatible server elsewhere runs, as a backend
``bodies``: Requests as the bodies that an upstream understands: nothing that was asked for is left out in silence
``call``: One call to an upstream: what is asked, and an attempt at it under way at one base URL
``call_pieces``: Calls of tools as upstreams tell them, in our form: each has its id and its name with its first piece,
    and once
``calls``: The calls of one request, carried out together and read as one stream of events
``connection``: A TCP connection that never blocks, with TLS where the address asks for it
``endpoint``: One base URL of an upstream: how it is, how many requests it has, and its idle connections
``estimate``: About how many tokens a text has, for servers that don't count
``exchange``: One HTTP request and its answer over a connection that never blocks; the HTTP itself is h11's
``forms``: What an answer must look like, as each kind of server is asked for it
``idle``: Connections that are kept for the next request
``kinds``: What each kind of server understands beside OpenAI's own fields, and by which names
``logprobs``: Log-probabilities as upstreams tell them, in our form
``lookup``: Looking up a host's addresses without waiting for it: the system's resolver blocks, so it does that in a
    thread
``messages``: Conversations as OpenAI's clients write them
``places``: How many requests are under way, counted over all processes of a server
``pool``: The base URLs of one model entry: which one a request goes to, which are left out, who waits in line
``pools``: The pools of all upstream models of this process: one for each entry, made again when that changes
``problems``: What an upstream's refusals and failures mean to whoever asked us
``reading``: Answers as they come: readers that turn the pieces of a body into events
``sse``: Server-sent events: bytes in, the data of each event out
``tokens``: Tokens and prompts, by the routes that each kind of server has for them
``tools``: Tools, and which of them are to be called, as each kind of server is told of them
``vectors``: Embeddings as upstreams give them, made vectors of length 1
"""
