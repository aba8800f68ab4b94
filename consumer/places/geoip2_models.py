"""geoip2's models as fields of ECS: the models of MaxMind's and DB-IP's databases, and of MaxMind's web service."""

from io import BytesIO
from typing import TYPE_CHECKING

import geoip2.database
from geoip2.errors import AddressNotFoundError
from geoip2.models import ASN, AnonymousIP, City, Country, Enterprise

from consumer.addresses import Address, Network
from consumer.ecs import NO_SOURCE, SourceFields
from consumer.places.place_fields import PlaceFields

if TYPE_CHECKING:
    from geoip2.records import PlaceRecord, Traits

Model = Country | ASN | AnonymousIP  # the other models are subclasses of these
LOCALES = ["en"]
# A model raises these for a record of another shape.
WRONG_SHAPE = (TypeError, ValueError, AttributeError)
# How an address hides its user, and the attribute of the model. Each type of database has only some of them.
_FLAGS = (
    ("vpn", "is_anonymous_vpn"), ("tor", "is_tor_exit_node"), ("proxy", "is_public_proxy"), ("proxy", "is_anonymous_proxy"),
    ("residential proxy", "is_residential_proxy"), ("hosting", "is_hosting_provider"), ("anonymous", "is_anonymous"),
)  # fmt: skip


class ModelReader:
    """
    geoip2's reader of one database.

    Args:
        file, mode: as ``geoip2.database.Reader`` takes them.
        method: the method of that reader for this type of database.

    Raises:
        Exception: the file is damaged. The reader raises almost anything then.
    """

    def __init__(self, file: int | BytesIO, mode: int, method: str) -> None:
        self._reader = geoip2.database.Reader(file, LOCALES, mode)
        self._model_of = getattr(self._reader, method)

    def fields(self, ip: Address) -> tuple[SourceFields, Network | None] | None:
        """
        Return the fields of an address, and the network to which they apply.

        Returns:
            None if the record has another shape than the name of the database suggests.

        Raises:
            Exception: the file is damaged. The reader raises almost anything then.
        """
        found = PlaceFields()
        try:
            model = self._model_of(ip)
            add_model(found, model)
        except AddressNotFoundError as error:
            return NO_SOURCE, error.network
        except WRONG_SHAPE:
            return None
        source = found.source()
        return None if source == NO_SOURCE else (source, _network_of(model))

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


def model_of(record: dict[str, object]) -> Enterprise:
    """
    Return the model of a record of MaxMind's nested shape, whatever its database is called.

    Raises:
        TypeError, ValueError, AttributeError: a part of it has another shape.
    """
    return Enterprise(LOCALES, **record)  # type: ignore[arg-type]


def add_model(found: PlaceFields, model: Model) -> None:
    """Add the values of a model. The models check no values; ``found`` does."""
    if isinstance(model, Country):
        if isinstance(model, City):
            _add_city(found, model)
        found.continent(model.continent.code)
        found.country(model.country.iso_code)
        found.text(_name(model.country), "country_name")
        _add_network(found, model.traits)
        _add_flags(found, model.traits)
    elif isinstance(model, ASN):  # ISP is one
        _add_network(found, model)
    elif isinstance(model, AnonymousIP):
        _add_flags(found, model)


def _network_of(model: Model) -> Network | None:
    return model.traits.network if isinstance(model, Country) else model.network


def _add_city(found: PlaceFields, model: City) -> None:
    found.text(_name(model.city), "city_name")
    if model.subdivisions:
        found.text(_name(model.subdivisions[0]), "region_name")  # the largest
    location = model.location
    found.latitude(location.latitude)
    found.longitude(location.longitude)
    found.radius(location.accuracy_radius)
    found.text(location.time_zone, "timezone")


def _add_network(found: PlaceFields, holder: "ASN | Traits") -> None:
    found.network(holder.autonomous_system_number)
    found.organization(holder.autonomous_system_organization)


def _add_flags(found: PlaceFields, holder: "AnonymousIP | Traits") -> None:
    for name, attribute in _FLAGS:
        found.anonymous(getattr(holder, attribute, False), name)


def _name(record: "PlaceRecord") -> object:
    """Return the English name, or else the first one."""
    names: object = record.names
    if not isinstance(names, dict):
        return None
    return names.get("en") or next(iter(names.values()), None)
