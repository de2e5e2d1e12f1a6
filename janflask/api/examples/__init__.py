"""The examples of the OpenAPI document.

``anthropic``: Examples of Anthropic's Messages for the OpenAPI document
``compaction``: Examples of compactions for the OpenAPI document
``conversations``: Examples of conversations for the OpenAPI document
``inference``: Examples for the OpenAPI document. A test loads the requests with their schemas and compares the answers'
    fields
``models``: Examples of models for the OpenAPI document, as in ``examples``
``responses``: Examples of responses for the OpenAPI document
``runs``: Examples of runs for the OpenAPI document
``server``: The server, as it is looked at
``store``: Examples of assistants and files for the OpenAPI document
``stored_chats``: Examples of stored chats for the OpenAPI document
"""
