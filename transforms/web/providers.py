"""Services that find photos of a person by name."""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from celebface.indexing.schemas import Reason
from celebface.transforms.records import Person
from celebface.transforms.web.client import Answer, clean_url
from celebface.transforms.web.policy import WebFault

Ask = Callable[..., Answer]  # as `WebClient.get` and `Host.get`


class BadProvider(Exception):
    """A provider cannot be used as it is set up."""


@dataclasses.dataclass(frozen=True, slots=True)
class FoundImage:
    """A photo that a provider knows.

    Attributes:
      url: Clean URL of its bytes.
      page: URL of the page that shows it.
      licence: The licence statement found with it.
      author: Who made it, as found with it.
      width: In pixels, of what is at `url`; 0 if unknown.
      height: Likewise.
      mime: Media type of what is at `url`; empty if unknown.
    """

    url: str
    page: str = ""
    licence: str = ""
    author: str = ""
    width: int = 0
    height: int = 0
    mime: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class FoundPerson:
    """A person as a provider knows them.

    Attributes:
      external_id: Such as wikidata:Q1744; empty if the provider knows people by name only.
      aliases: Other names.
      images: Photos, the most telling first, each once; one at least.
    """

    external_id: str
    aliases: tuple[str, ...]
    images: tuple[FoundImage, ...]


class ImageProvider(Protocol):
    """Finds photos of a person. Plain values only, so that it can be sent to workers."""

    @property
    def name(self) -> str:
        """What it is called on the command line."""
        ...

    @property
    def host(self) -> str:
        """The host that is asked."""
        ...

    def find(self, person: Person, limit: int, ask: Ask) -> FoundPerson:
        """Finds a person, and photos of them.

        Args:
          person: Who; the external id is preferred to the name where the provider knows such ids.
          limit: Most photos.
          ask: As `WebClient.get`; a provider sends nothing but by it.

        Raises:
          WebFault: If the person is not known (unknown_person), no photo is (no_images), the provider wants no more
            requests (quota_exceeded) or says something else than it should (provider_error), or as `ask` does.
        """
        ...


def make_provider(
    name: str, url: str = "", language: str = "en", environment: Mapping[str, str] = os.environ
) -> ImageProvider:
    """Makes a provider by its name.

    Args:
      name: "wikimedia" or "google".
      url: Root of another server that speaks the same; empty for the provider's own.
      language: Code of the language that names are given in.
      environment: Where keys are looked for. Providers that need one read it from the process's environment each time
        they ask, so that it is never part of them.

    Raises:
      BadProvider: If there is no such provider, or it cannot be used so.
    """
    # Each provider's module needs the interface above.
    from celebface.transforms.web.google import Google, check_environment
    from celebface.transforms.web.wikimedia import Wikimedia, check_language

    try:
        root = clean_url(url).rstrip("/") if url else ""
    except WebFault as fault:
        raise BadProvider(f"the provider's address is {fault}") from fault
    match name:
        case "wikimedia":
            check_language(language)
            return Wikimedia(root, language)
        case "google":
            check_environment(environment)
            return Google(root, language)
    raise BadProvider(f"there is no provider {name!r}; known are google and wikimedia")


# --- answers, of which nothing is sure --------------------------------------------------------------------------------


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object that an answer is.

    Raises:
      WebFault: If it is none.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WebFault(Reason.PROVIDER_ERROR, "the answer is no JSON") from error
    if not isinstance(content, dict):
        raise WebFault(Reason.PROVIDER_ERROR, "the answer is no JSON object")
    return content


def dicts(value: Any) -> list[dict[str, Any]]:
    """The objects in what ought to be a list of them."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def natural(value: Any) -> int:
    """A number above 0; 0 if it is none."""
    return value if isinstance(value, int) and value > 0 else 0
