"""The store: conversations, assistants and uploaded files, in plain files that can be read and backed up.

``answers``: What a client wants of an answer that is asked for by itself: a response, or a chat completion
``base``: The repository's protocol. ``tests/unit/storage`` has one suite for every implementation
``branches``: Branches: threads that begin as another one does, and the families that they make, told by their
    ``metadata``
``changes``: Which changes of messages and runs are told by webhooks
``file_assistants``: Assistants on disk: ``assistants/<id>/assistant.json``, as Jan has them
``file_runs``: Runs on disk: ``threads/<id>/runs/<run id>.json``, and a run's event log in ``<run id>.reply``
    (``run_log``)
``file_threads``: Threads in folders: ``threads/<id>/`` with ``thread.json``, ``messages.jsonl`` and ``files/``, as Jan
    has them
``file_uploads``: Uploaded files on disk, a folder each:
``folders``: Objects that are one folder each: which there are, putting one in its place, taking one away
``giving``: What is stored becomes another key's: what was made before there were keys, or what a revoked one left
``index_file``: A SQLite file of which nothing would be missed: made anew where it is broken, in memory where none can
    be written
``items``: A conversation as items: each message of a thread is one or more of them, in this order
``jan``: Threads and messages as JSON on disk, in Jan's own shape, and back
``jan_assistants``: Assistants as JSON on disk, in the shape of Jan's ``assistant.json``, and back; and the one that is
    built in
``lru``: What was used last, up to a total weight, and not for long: what is remembered may be of something that is gone
``memory``: The repository in memory: for tests, and the plainest statement of what ``base`` says
``memory_runs``: Runs in memory, and the events of each
``memory_threads``: Threads and their messages in memory
``memory_uploads``: Uploaded files in memory
``message_index``: Where each message of a thread lies in its file, so that a page in the middle needs no walk through
    all of it
``message_lines``: What stands in a line of ``messages.jsonl``: one message, unless a program forgot a line break or did
    not finish one
``message_log``: ``messages.jsonl``: one message a line, appended under the thread's lock, read without it
``odd_values``: Parameters and settings in files that nobody can mean, in words: for the doctor, and for whoever imports
    them
``paging``: Cutting a page out of a list whose order is known, by cursors that are ids
``records``: What the store keeps: threads, messages, assistants, uploaded files and runs, as frozen dataclasses
``rounds``: Rounds of a run: what a model says before it wants functions called, its calls, and what these gave back
``run_json``: Runs as JSON on disk, and back
``run_log``: A run's event log, ``runs/<run>.reply``: one event a line, and the event's number is its line's, from 1
``run_log_file``: Event logs on disk, each a file of its thread's ``runs`` folder; ``fd`` is that folder's descriptor
    everywhere
``search``: Looking for words in threads: a scan, over bytes where that is enough to say no
``thread_files``: A thread's own files: the folder ``files/`` in its folder, which nobody but the thread knows
``thread_folders``: The folder of a thread, opened to read or locked to write, with errors that speak of the thread
``thread_index``: Which threads there are, in the order of their creation: a SQLite file that can be thrown away at any
    time
``thread_messages``: The messages of threads in folders: ``messages.jsonl``, appended to, and written anew where a
    message changes
"""

from __future__ import annotations

from janflask.files.disk import Disk
from janflask.files.locks import FolderLocks
from janflask.settings import Settings
from janflask.storage.base import Repository

# Of the fourth form: a server of an earlier version that still runs keeps its own.
THREADS_INDEX = "threads-4.sqlite"


def open_repository(settings: Settings) -> Repository:
    """The repository in ``settings.data_dir``. Makes no folder and reads no file before it is used."""
    from janflask.storage.file_assistants import FileAssistantStore
    from janflask.storage.file_runs import FileRunStore
    from janflask.storage.file_threads import FileThreadStore
    from janflask.storage.file_uploads import UploadStore
    from janflask.webhooks.outbox import Outbox

    telling = Outbox(settings).telling
    disk = Disk(durable=settings.durability == "disk")
    locks = FolderLocks(settings.lock_timeout)
    return Repository(
        threads=FileThreadStore(settings.threads_dir, settings.cache_dir / THREADS_INDEX, disk, locks, telling),
        assistants=FileAssistantStore(settings.assistants_dir, disk, locks),
        files=UploadStore(settings.files_dir, disk, locks),
        runs=FileRunStore(settings.threads_dir, settings.runs_dir, disk, locks, telling),
    )
