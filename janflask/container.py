"""One application's services, put together."""

from __future__ import annotations

from dataclasses import dataclass

from janflask.access.meter import Meter
from janflask.inference.backends import Backends
from janflask.inference.local.engines import Engines
from janflask.inference.upstream.pools import UpstreamPools
from janflask.ipc.clients.supervisor import SupervisorClient
from janflask.metrics.exposition import Exposition
from janflask.metrics.http_counts import HttpCounts
from janflask.metrics.overview import Observer
from janflask.metrics.tracing import Tracing, tracing
from janflask.models.catalog import ModelCatalog
from janflask.services.answers import AnswerService
from janflask.services.assistants import AssistantService
from janflask.services.cache_diagnostics import CacheDiagnostics
from janflask.services.compaction import Compactions
from janflask.services.comparisons import Comparisons
from janflask.services.downloads import DownloadService
from janflask.services.files import FileService
from janflask.services.health import HealthService
from janflask.services.items import ItemService
from janflask.services.messages import MessageService
from janflask.services.models import ModelService
from janflask.services.own_runner import OwnRunner
from janflask.services.runs import RunService
from janflask.services.seals import Seals
from janflask.services.threads import ThreadService
from janflask.services.unstored import UnstoredAnswers
from janflask.settings import Settings
from janflask.storage import open_repository
from janflask.storage.base import Repository
from janflask.transfer.service import PortableService

PATIENCE = 3.0  # seconds a request waits for a supervisor or a runner that was killed to be back


@dataclass(frozen=True, slots=True)
class Services:
    """What the views work with. Thread-safe; making them opens no socket and starts no process."""

    settings: Settings
    models: ModelService
    downloads: DownloadService
    backends: Backends
    assistants: AssistantService
    threads: ThreadService
    messages: MessageService
    items: ItemService
    answers: AnswerService
    unstored: UnstoredAnswers
    runs: RunService
    files: FileService
    portable: PortableService
    seals: Seals
    compactions: Compactions
    cache_diagnostics: CacheDiagnostics
    comparisons: Comparisons
    health: HealthService
    http_counts: HttpCounts
    metrics: Exposition
    observer: Observer
    traces: Tracing | None

    @classmethod
    def of(cls, settings: Settings, repository: Repository | None = None) -> Services:
        """Over ``settings``' data folder and the supervisor in its runtime folder.

        ``repository`` is another than the folder's, or what somebody sees of it.
        """
        # Without a runtime folder nobody can have started a supervisor for us: each question to it fails with a 503.
        runtime_dir = settings.runtime_dir or settings.data_dir / "run"
        supervisor = SupervisorClient(runtime_dir, PATIENCE)
        downloads = DownloadService(settings, supervisor)
        engines, upstreams = Engines(settings, supervisor), UpstreamPools(settings)
        catalog, http_counts = ModelCatalog(settings.models_dir), HttpCounts(settings.runtime_dir)
        models = ModelService(settings, catalog, supervisor, downloads, engines, upstreams)
        repository = open_repository(settings) if repository is None else repository
        runner = OwnRunner(runtime_dir, PATIENCE, repository.check)
        assistants, messages = AssistantService(repository), MessageService(settings, repository)
        threads = ThreadService(settings, repository, assistants, messages)
        traces = tracing()
        record = None if traces is None else traces.record
        backends = Backends(settings, models.card, engines, upstreams, Meter(settings.usage_dir).spend, record)
        seals = Seals(settings.secrets_dir)
        compactions = Compactions(backends, seals)
        items = ItemService(
            settings, repository, threads=threads, messages=messages, seals=seals, compactions=compactions
        )
        answers = AnswerService(
            settings, repository, runner, items=items, messages=messages, models=models, threads=threads
        )
        unstored = UnstoredAnswers(answers, backends, models, compactions)
        diagnostics = CacheDiagnostics(settings.cache_dir, seals)
        return cls(
            settings=settings,
            models=models,
            downloads=downloads,
            backends=backends,
            assistants=assistants,
            threads=threads,
            messages=messages,
            items=items,
            answers=answers,
            unstored=unstored,
            comparisons=Comparisons(repository, answers, diagnostics),
            runs=RunService(
                settings,
                repository,
                runner,
                assistants=assistants,
                messages=messages,
                models=models,
                threads=threads,
            ),
            files=FileService(settings, repository),
            portable=PortableService(settings, repository),
            seals=seals,
            compactions=compactions,
            cache_diagnostics=diagnostics,
            health=HealthService(runtime_dir),
            http_counts=http_counts,
            metrics=Exposition(settings, runtime_dir, catalog, http_counts),
            observer=Observer(runtime_dir, catalog),
            traces=traces,
        )
