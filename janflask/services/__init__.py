"""What an answer needs, without HTTP.

``answer_list``: Answers of all threads as one list. What is read of a thread is which runs it has, and then those of
    the page
``answer_making``: How an answer gets onto the disk: what is checked before, and whether it stays in its thread or gets
    a new one
``answer_places``: Where an answer is given: behind another one, in a conversation that its client names, or in a new
    one
``answers``: Answers that are asked for by themselves: responses, and stored chats. Each is a run of a thread
``assistants``: Assistants: who answers in a thread, by default with which model, instructions and sampling
``cache_diagnostics``: Why a prompt's beginning was not found computed: two requests are compared, and where they first
    differ is told
``call_order``: Whether calls and their outputs come in an order that can be shown to a model
``compacted``: A conversation whose older part a summary stands for: what of it a model is shown, and what stays as it
    is
``compaction``: Compaction: the model sums up the older part of a conversation, and the summary stands for it from then
    on
``comparisons``: A response is compared with a stored one that its prompt should have begun like
``continuing``: A thread's last message that gets more words: whether it can, and what it is then
``downloads``: Downloads of models: checked here, fetched in the supervisor's care
``endings``: How runs end, and how they come to wait: the fields of a run that this sets
``files``: Uploaded files: received in pieces, described, handed out, and deleted only when nobody holds them
``health``: Whether the server can take requests: what of it should be up and is not
``inherited``: What a run takes over: parameters and settings of its thread, the thread's entry of the assistant, the
    assistant
``item_lines``: One draft of an item as a line of a thread, and one item as a draft
``item_lookup``: Finds an item that a client names by its id alone, as some send what was answered before
``items``: The items of a conversation: lines out of what a client brings, and one item at a time of what is stored
``message_drafts``: A message of Anthropic's form that goes on with a conversation of the store: what is asked of the
    answer's run
``messages``: The messages of a thread
``model``: One model as the API sees it: what is on disk joined with what the supervisor knows
``model_changes``: Changing and deleting the models on disk. A client names what changes, never a path
``model_import``: A GGUF file of this machine becomes a model: linked, copied, or named where it lies. Never half of one
``models``: Models as the API sees them: what is on disk joined with what the supervisor runs
``overrides``: ``settings`` that a client sends, of a model, a thread or an assistant: what a model is started with
``own_runner``: The runner, as far as it has to do with threads that are to be seen
``paging``: Pages of lists, out of what a client asks for
``prompts``: What the model is shown of a run's thread, or of a conversation that is answered without being stored
``replies``: The messages that a run makes, at any time of the run
``run_calls``: What a run may call, and what was called: its tools, whose outputs it waits for, and how long
``run_changes``: Listening to a run, be it that runners go away under it
``run_start``: What runs and answers have in common when they are made: their model, and that the runner hears of them
``run_told``: What a run has said, as far as it has come, out of its log or else out of its message
``runs``: Runs: a thread is made to answer. What is asked for is written down here; the runner's process carries it out
``seals``: Texts that leave the server and come back unchanged or not at all: sealed, or signed
``spool``: Streams that can be sought
``thoughts``: Thoughts that leave the server and come back with the conversation: shown as ours again, or refused
``threads``: Threads: conversations with what decides how they are answered
``turns``: A thread's lines as a model is shown them: instructions, what was said, calls, and what these gave back
``unstored``: Answers that are not stored: they are asked for and given without anything on the disk
``upstream_entries``: The model entry of an upstream: a folder with a ``model.json`` and no weights. Only the command
    line writes one
``upstream_models``: What the API says and does of models that an upstream runs: nothing is started or stopped here
"""
