"""The names of the processes' sockets in the runtime folder: for who need not know yet what is said there."""

RUNNER_SOCKET = "runner.sock"
SUPERVISOR_SOCKET = "supervisor.sock"
