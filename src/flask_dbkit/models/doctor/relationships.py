"""DK049 and DK06x: relationships, and how they load."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import UniqueConstraint
from sqlalchemy.orm import Mapper, RelationshipProperty
from sqlalchemy.orm.interfaces import MANYTOMANY, ONETOMANY

from ...doctor.checks import check
from ...doctor.examination import Examination
from ...doctor.exceptions import NotExamined
from ...doctor.findings import Found
from ..orphans import CodePlace, orphaned_models

__all__: list[str] = []

_ORM = "https://docs.sqlalchemy.org/en/20/orm"


def _relationships(given: Examination) -> Iterator[tuple[Mapper[Any], RelationshipProperty[Any]]]:
    """Yield each relationship once, with the class that has it; none that a library has added."""
    for mapper in given.mappers:
        for relationship in mapper.relationships:
            own = given.sources.has(mapper.class_, relationship.key)
            if relationship.parent is mapper and own:
                yield mapper, relationship


def _about(given: Examination, mapper: Mapper[Any], key: str) -> dict[str, Any]:
    place = given.sources.place_of(mapper.class_, key)
    return {"object": f"{mapper.class_.__name__}.{key}", "place": place}


@check(
    "DK049",
    "A relationship and its foreign key want different things",
    tags=("models",),
    cause="What becomes of the children when a parent is deleted depends on whether the session"
    " or a statement deletes it, or fails.",
    fix='For ondelete="CASCADE" write cascade="all, delete-orphan", passive_deletes=True; for'
    ' ondelete="SET NULL" make the column nullable and leave delete out of cascade.',
    link=f"{_ORM}/cascades.html#using-foreign-key-on-delete-cascade-with-orm-relationships",
)
def contradicting_deletes(given: Examination) -> Iterator[Found]:
    """Compare ondelete with cascade, passive_deletes and nullable."""
    for mapper, relationship in _relationships(given):
        if relationship.direction is not ONETOMANY or relationship.viewonly:
            continue
        about = _about(given, mapper, relationship.key)
        for column in relationship.remote_side:
            for key in column.foreign_keys:
                said = _contradiction(relationship, (key.ondelete or "").upper(), column.nullable)
                if said is not None:
                    yield Found(f"{about['object']}: {said}", **about)


def _contradiction(
    relationship: RelationshipProperty[Any], ondelete: str, nullable: bool
) -> str | None:
    deletes = relationship.cascade.delete
    if ondelete == "SET NULL" and not nullable:
        return "ondelete is SET NULL, and the column is not nullable"
    if ondelete == "CASCADE" and not deletes and not relationship.passive_deletes:
        return "the database deletes the children, and the session sets their key to NULL first"
    if ondelete in ("SET NULL", "SET DEFAULT") and deletes:
        return f"the session deletes the children, and the database does {ondelete}"
    return None


@check(
    "DK060",
    "A collection that is always joined",
    tags=("models", "loading"),
    cause='lazy="joined" repeats each parent for each child, in every query; two such collections'
    " multiply, and LIMIT needs a subquery.",
    fix='Write lazy="selectin", or say what to load where it is needed: selectinload().',
    link=f"{_ORM}/queryguide/relationships.html#what-kind-of-loading-to-use",
)
def joined_collections(given: Examination) -> Iterator[Found]:
    """Look at the strategy of each collection."""
    for mapper, relationship in _relationships(given):
        if relationship.lazy in ("joined", False) and relationship.uselist:
            about = _about(given, mapper, relationship.key)
            yield Found(f'{about["object"]} has lazy="joined"', **about)


@check(
    "DK061",
    "A dynamic relationship",
    level="info",
    tags=("models", "loading"),
    cause='lazy="dynamic" is SQLAlchemy\'s legacy: each access sends a statement, none can be'
    " loaded ahead, and it has no 2.0 style.",
    fix='Write lazy="write_only" and WriteOnlyMapped, or an ordinary relationship.',
    link=f"{_ORM}/large_collections.html#dynamic-relationship-loaders",
)
def dynamic_relationships(given: Examination) -> Iterator[Found]:
    """Look at the strategy of each relationship."""
    for mapper, relationship in _relationships(given):
        if relationship.lazy == "dynamic":
            about = _about(given, mapper, relationship.key)
            yield Found(f'{about["object"]} has lazy="dynamic"', **about)


@check(
    "DK062",
    "A relationship that is written on the other side only",
    level="info",
    tags=("models",),
    cause="backref makes an attribute that stands in no class: neither readers nor type checkers"
    " see it.",
    fix="Write both sides with back_populates.",
    link=f"{_ORM}/backref.html",
)
def backrefs(given: Examination) -> Iterator[Found]:
    """Look for backref."""
    for mapper, relationship in _relationships(given):
        if relationship.backref is not None:
            about = _about(given, mapper, relationship.key)
            yield Found(f"{about['object']} makes its other side by backref", **about)


@check(
    "DK065",
    "A table between two others whose pairs may repeat",
    tags=("models",),
    cause="The same pair can be stored twice: an object appears twice in the collection, and to"
    " remove it once fails.",
    fix="Make both foreign keys the primary key: primary_key=True for each.",
    link=f"{_ORM}/basic_relationships.html#many-to-many",
)
def repeating_pairs(given: Examination) -> Iterator[Found]:
    """Look for a key over both columns of each secondary table."""
    seen = set()
    for _, relationship in _relationships(given):
        table: Any = relationship.secondary
        if relationship.direction is not MANYTOMANY or table is None or table in seen:
            continue
        seen.add(table)
        pair = {column for column in table.columns if column.foreign_keys}
        if table.primary_key.columns and not any(key <= pair for key in _unique_keys(table)):
            yield Found(f"{table} may hold the same pair twice", object=str(table))


def _unique_keys(table: Any) -> Iterator[set[Any]]:
    yield set(table.primary_key.columns)
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            yield set(constraint.columns)
    for index in table.indexes:
        if index.unique:
            yield set(index.columns)


@check(
    "DK066",
    "Models that do not fit together",
    level="error",
    tags=("models",),
    cause="The first query of the application fails, whatever it asks for.",
    fix="Do what the message says: most often a name is misspelt, or a module is not imported.",
    link="https://docs.sqlalchemy.org/en/20/orm/mapping_api.html#sqlalchemy.orm.configure_mappers",
)
def unfit_models(given: Examination) -> Iterator[Found]:
    """Configure the mappers, as the first query does."""
    try:
        given.configure_mappers()
    except NotExamined as error:
        yield Found(str(error), object="models")


@check(
    "DK056",
    "A model without a database",
    level="error",
    tags=("models",),
    cause="Its base was given to no SQLAlchemy object: create_all() makes no table for it, and"
    " migrations know none.",
    fix="Give its base to the object: db = SQLAlchemy(model_class=Base).",
)
def models_without_database(given: Examination) -> Iterator[Found]:
    """Look for bases of this application that nobody uses."""
    place = CodePlace(given.app.import_name, given.app.root_path, frozenset())
    for model in orphaned_models(given.db.metadatas.values(), place):
        name = f"{model.__module__}.{model.__qualname__}"
        yield Found(f"{name} belongs to no database", name, place=given.sources.place_of(model))
