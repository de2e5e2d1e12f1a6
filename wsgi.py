"""The WSGI entry point: ``gunicorn -c conf/gunicorn.conf.py wsgi:app``, ``flask --app wsgi ...``."""

from janflask import create_app
from janflask.cli import register

app = create_app()
register(app)
