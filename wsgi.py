"""The WSGI entry point: ``gunicorn -c conf/gunicorn.conf.py wsgi:app``, ``flask --app wsgi ...``."""

import click

from janflask import create_app

app = create_app()
if click.get_current_context(silent=True) is not None:  # flask's command line: a worker has no use for commands
    from janflask.cli import register

    register(app)
