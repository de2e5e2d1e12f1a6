"""Request bodies and answers as marshmallow schemas: checked, and described for the OpenAPI document.

``answers``: What the API answers with, for the OpenAPI document. They are built as plain objects; a test compares
``anthropic``: The bodies of POST /messages and /messages/count_tokens, as Anthropic's clients send them
``anthropic_answers``: What Anthropic's clients are answered with, for the OpenAPI document
``anthropic_blocks``: The messages of Anthropic's requests: turns of blocks, each checked at its place
``anthropic_tools``: Tools in Anthropic's requests: those that a client carries out, and whether they are called
``assistants``: The bodies of requests that make or change assistants, and the assistant as it is answered
``chat``: The body of POST /chat/completions
``completions``: The body of POST /completions
``constraints``: The fields that say what an answer must look like, as OpenAI, llama.cpp and vLLM spell them
``conversations``: Bodies, queries and answers of conversations, which are threads seen as items
``embeddings``: The body and the answer of POST /embeddings
``fields``: Strict fields: JSON's types are taken at their word, and an error says what would be right
``files``: The query of the list of uploaded files, and a file as it is answered. ``api.plumbing.uploads`` reads uploads
``items``: Items of a conversation as clients send them: what was said, thought and called, and what calls gave back
``messages``: The bodies of requests that store messages, and the query of their list
``model_answers``: Models as they are answered, for the OpenAPI document. They are built as plain objects; a test
    compares
``models``: The bodies of requests about models, and the one table of what a model can be started with
``objects``: What the bodies and queries of stored objects have in common: JSON objects with limits, and pages of lists
``pairs``: OpenAI's ``metadata`` of answers: sixteen pairs of short texts at most
``parameters``: ``parameters`` of a thread, an assistant or a model: the fields of an inference request, to be used as
    its defaults
``response_answers``: Responses as they are answered, for the OpenAPI document. They are built as plain objects
``response_context``: What becomes of a conversation that grows too long, and what is asked about the cached beginning
    of a prompt
``response_input``: The ``input`` of a response: a string, or items
``response_queries``: The queries about responses
``response_text``: What the words of a response are to be like
``response_tools``: Tools of a response: functions, those in namespaces and custom ones as functions; what is left out
``responses``: The body of POST /responses
``run_answers``: Runs and their steps as they are answered, for the OpenAPI document. They are built as plain objects
``runs``: The bodies of requests that make or change runs
``sampling``: What a chat and a completion request have in common: how much to generate and how to choose tokens
``server_answers``: What is told of the server, as the OpenAPI document describes it
``stored``: What the answers about threads, messages, assistants and files share, for the OpenAPI document
``stored_chat_answers``: Stored chats and their messages as they are answered, for the OpenAPI document. They are built
    as plain objects
``stored_chats``: Chat completions that are stored: what a request with ``store`` asks for, and what may be asked of
    them later
``thinking``: How much a model is to think before it answers: our fields, and the forms that other servers have for them
``thread_answers``: Threads and messages as they are answered, for the OpenAPI document. They are built as plain objects
``threads``: The bodies of requests that make or change threads, and the query of their list
``tokens``: The bodies and answers of POST /tokenize, /detokenize and /apply-template
``tool_choice``: Whether tools are called, and which: ``tool_choice`` and the older ``function_call``, in all their
    forms
``tools``: Tools in requests: what may be called, what was called, and who decides
"""
