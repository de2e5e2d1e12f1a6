"""Which model a download becomes: its id, and whether it is there already."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from janflask.downloads import sources
from janflask.downloads.download import Means
from janflask.downloads.hub import Hub
from janflask.downloads.sources import Source
from janflask.errors import ConflictError, InvalidRequestError
from janflask.models.card import ModelCard
from janflask.models.catalog import is_model_id, source_urls
from janflask.models.publish import check_holds_none
from janflask.models.state import DownloadRequest

MAX_ID = 128  # characters


def choose_id(
    request: DownloadRequest,
    source: Source,
    cards: Sequence[ModelCard],
    means: Means,
    is_downloading: Callable[[str], bool],
) -> str:
    """The id that ``request`` asks for, or that of a model described here without weights, or a free one.

    Raises ConflictError when the model is here already or a model has the id.
    """
    known = [card for card in cards if is_from(card, source, means.hub)]
    for card in known:
        if card.present:
            raise ConflictError(
                f"this source is here already, as the model {card.id}: use that, or delete it first",
                param="source_url",
                code="model_exists",
            )
    if request.model_id is not None:
        return _asked_for(request.model_id, cards)
    described = next((card.id for card in known if card.problem is None), None)
    if described is not None and not is_downloading(described):
        return described
    taken = {card.id for card in cards}
    return _free(
        source.default_id,
        lambda name: name in taken or is_downloading(name) or (means.models_dir / name).exists(),
    )


def is_from(card: ModelCard, source: Source, hub: Hub) -> bool:
    """Whether ``model.json`` says that the model comes from this source, in whatever spelling."""
    return any(_key(url, hub) == source.key for url in source_urls(card))


def _key(url: str, hub: Hub) -> str | None:
    try:
        return sources.parse(url, hub).key
    except InvalidRequestError:  # model.json may name what no download could fetch
        return None


def _asked_for(model_id: str, cards: Sequence[ModelCard]) -> str:
    if not is_model_id(model_id):
        raise InvalidRequestError(f"{model_id[:MAX_ID]!r} is no id for a model", param="id")
    card = next((card for card in cards if card.id == model_id), None)
    if card is not None and card.present:
        raise ConflictError(f"there is a model {model_id} already: choose another id, or delete it first", param="id")
    if card is not None and card.problem is not None:
        raise ConflictError(f"the model {model_id} is damaged ({card.problem}): choose another id", param="id")
    check_holds_none(model_id, cards)
    return model_id


def _free(wanted: str, is_taken: Callable[[str], bool]) -> str:
    """``wanted``, or else with the first number behind it that makes it free."""
    name, number = wanted, 1
    while is_taken(name):
        number += 1
        suffix = f"-{number}"
        name = wanted[: MAX_ID - len(suffix)] + suffix
    return name
