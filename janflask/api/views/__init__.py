"""The routes, a module for each kind of object.

``anthropic``: POST /messages and /messages/count_tokens, as Anthropic has them
``assistants``: Assistants: GET and POST /assistants, and what can be done with one of them
``compaction``: A conversation is summed up, for a client that goes on from there
``conversations``: Conversations: threads seen as items
``embeddings``: POST /embeddings
``files``: Uploaded files: POST and GET /files, and what can be done with one of them
``inference``: POST /chat/completions and /completions
``messages``: The messages of a thread, and the files of a message
``models``: Models: listed, fetched, described, changed, started, stopped, watched and deleted
``page``: The page at ``/``, and the documentation's own files. What both are made of is open: whoever reads it knows
    nothing
``responses``: Responses: what answers a conversation, stored or not
``runs``: Runs: what makes a thread answer
``stored_chats``: Chat completions that are stored: made, listed, told again, joined, changed and deleted
``system``: The server itself: its health and its metrics
``threads``: Threads: conversations, their assistants, and their way in and out
``tokens``: POST /tokenize, /detokenize, /chat/completions/input_tokens and /apply-template
``transfer``: Threads out of this server and into it: one as a JSON document, all as an archive
"""
