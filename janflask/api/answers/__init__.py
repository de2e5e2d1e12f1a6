"""From what the services give to the JSON and the events that clients get.

``anthropic_diagnosis``: What a message says of its prompt's cached beginning, beside an earlier message's
``anthropic_errors``: Errors as Anthropic's clients read them
``anthropic_events``: Anthropic's events of one streamed message: each with its name, and each block from its start to
    its end
``anthropic_message``: Anthropic's message out of a generation's events: the whole one, and what it shares with a
    streamed one
``anthropic_models``: Models as Anthropic's clients read them
``anthropic_stream``: A streamed message, from its first byte to ``message_stop``
``chat_log``: A stored chat's run and its log, as the events that a backend would have given: whole, or as they come
``chunks``: The ``data:`` lines of a streamed answer
``compaction_objects``: A compacted conversation as the API shows it
``conversation_objects``: Conversations as the API shows them
``inference``: OpenAI's answer objects out of a generation's events: the whole ones, and what whole and streamed ones
    share
``item_objects``: Items of a conversation as the Responses and Conversations APIs show them
``model_events``: Server-sent events of one model: how it is, and how far its download is, until nothing is under way
    with it
``model_objects``: A model as the API shows it: Jan's fields, OpenAI's, and how it runs
``response_errors``: Errors about a response in the words of its request: what it is made of has other names below
``response_events``: A response's events, as the SDK's stream helper wants them: the same ones, in the same order,
    whoever asks and when
``response_objects``: Responses as the API shows them: of a run, and of the messages that it made
``response_stream``: A response as it grows: of what a backend says, where nothing is stored, or of a run as it is
    carried out
``run_event_data``: What a run's events say: the run, a step or a message as it was then, made from the run as it is now
``run_events``: A run's events, as the SDK's stream helpers want them: the same ones, in the same order, whoever asks
    and whenever
``run_objects``: Runs as the API shows them, in the shape of OpenAI's
``run_stream``: A run's events as server-sent events, from the start or from where a client was cut off
``server_object``: The server as the API shows it: what is going on in it at one moment
``step_objects``: The steps of runs as the API shows them, in the shape of OpenAI's: the making of messages, and calls
``stored_chats``: Stored chats as the API shows them, and their streams
``thread_objects``: Threads and messages as the API shows them
"""
