"""The WSGI entry point: ``gunicorn -c conf/gunicorn.conf.py wsgi:app``, ``flask --app wsgi ...``."""

from janflask import create_app

app = create_app()
