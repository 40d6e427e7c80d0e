"""The law of peer loading: a random walk gives the same object graph with it and without.

    python -m tests.peer_loading.law --walks 2000 --url postgresql+psycopg://postgres@127.0.0.1/test

A walk queries, changes, and touches attributes, all by one seed. It is done once one by one and
once for peers, on the same rows; what was seen, the errors, the warnings and what is left pending
have to be equal. Changes come before the first touch of a round: what a session writes after a
batch by foreign key values only is not in a peer's attribute, as after ``selectinload()``.
One difference in a thousand walks is none of the law's: an object that two results with other
options reach keeps those of the load that came first, and a batch comes earlier. A walk ends where
the object that is touched carries other options than in the walk without peers, and is counted.
"""

from __future__ import annotations

import argparse
import random
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import orm
from sqlalchemy.orm import relationship

from flask_dbkit import DBKit, PeerLoads, declarative_base, lazy_loading

# What is changed in one round. Two that touch a collection, or change what one holds, are never
# together: then a batch would have been read before the change, as an eager load is.
CHANGES = (
    ("name", "bio", "reference", "delete", "expire", "expunge", "new"),
    ("name", "assign", "expire"),
    ("name", "append"),
)
OTHER_OPTIONS = "other options"
KEYS = ("int", "int", "uuid", "text", "pair")


class World:
    """Models of one random form, and an application with their tables."""

    def __init__(self, rng: random.Random, url: str) -> None:
        self.key = rng.choice(KEYS)
        self.base: Any = declarative_base()
        self.db = SQLAlchemy(model_class=self.base)
        self._make_models(rng)
        self.app = Flask("law")
        self.app.config.update(
            SQLALCHEMY_DATABASE_URI=url, DBKIT_LAZY_MAX_PEERS=rng.choice((2, 5, 500))
        )
        DBKit(self.app, db=self.db)

    def _make_models(self, rng: random.Random) -> None:
        base: Any = self.base
        pair = self.key == "pair"
        kind: Any = {"int": sa.Integer, "uuid": sa.Uuid, "text": sa.String(20), "pair": sa.Integer}[
            self.key
        ]
        text = sa.String(30)

        def foreign(name: str) -> list[Any]:
            columns = [sa.Column(f"{name}_id", kind, nullable=True)]
            targets = ["node.id"]
            if pair:
                columns.append(sa.Column(f"{name}_part", sa.Integer, nullable=True))
                targets.append("node.part")
            names = [column.name for column in columns]
            return [
                *columns,
                sa.ForeignKeyConstraint(names, targets, name=f"fk_{name}_{uuid.uuid4().hex[:8]}"),
            ]

        def joined(one: Any, prefix: str, node: Any) -> Any:
            parts = [node.c.id == one.c[f"{prefix}_id"]]
            if pair:
                parts.append(node.c.part == one.c[f"{prefix}_part"])
            return sa.and_(*parts)

        metadata = base.metadata
        own = [sa.Column("id", kind, primary_key=True, autoincrement=False)]
        if pair:
            own.append(sa.Column("part", sa.Integer, primary_key=True, autoincrement=False))
        node = sa.Table(
            "node", metadata, *own, sa.Column("name", text), sa.Column("bio", text), *foreign("up")
        )
        inherits = self.inherits = rng.choice(("none", "single", "joined"))
        item = sa.Table(
            "item",
            metadata,
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("name", text),
            sa.Column("kind", sa.String(10)),
            sa.Column("active", sa.Integer),
            sa.Column("rank", sa.Integer),
            sa.Column("note", text),
            *([sa.Column("extra", text)] if inherits == "single" else []),
            *foreign("node"),
        )
        special = sa.Table(
            "special",
            metadata,
            sa.Column("id", sa.ForeignKey("item.id"), primary_key=True),
            sa.Column("more", text),
        )
        profile = sa.Table(
            "profile",
            metadata,
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("name", text),
            *foreign("node"),
        )
        label = sa.Table(
            "label",
            metadata,
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("name", text),
        )
        link = sa.Table(
            "link",
            metadata,
            sa.Column("item_id", sa.ForeignKey("item.id")),
            sa.Column("label_id", sa.ForeignKey("label.id")),
            sa.Column("pos", sa.Integer),
        )
        friend = sa.Table(
            "friend",
            metadata,
            sa.Column("n", sa.Integer, primary_key=True),
            *foreign("one"),
            *foreign("two"),
        )

        class Node(base):  # type: ignore[misc]
            __table__ = node
            bio = orm.deferred(node.c.bio)
            up = relationship(
                "Node",
                remote_side=[node.c.id, *([node.c.part] if pair else [])],
                back_populates="downs",
            )
            downs = relationship(
                "Node", back_populates="up", order_by=rng.choice((node.c.name, node.c.name.desc()))
            )
            items = relationship("Item", back_populates="node", order_by=(item.c.rank, item.c.id))
            live = relationship(
                "Item",
                primaryjoin=sa.and_(joined(item, "node", node), item.c.active == 1),
                viewonly=True,
                order_by=item.c.id,
            )
            odd = relationship(
                "Item",
                primaryjoin=sa.and_(joined(item, "node", node), item.c.name >= node.c.name),
                viewonly=True,
                order_by=item.c.id,
            )
            profile = relationship("Profile", back_populates="node", uselist=False)
            friends = relationship(
                "Node",
                secondary=friend,
                primaryjoin=joined(friend, "one", node),
                secondaryjoin=joined(friend, "two", node),
                order_by=friend.c.n,
                viewonly=True,
            )
            count = orm.column_property(
                sa.select(sa.func.count(item.c.id))
                .where(joined(item, "node", node))
                .correlate_except(item)
                .scalar_subquery(),
                deferred=True,
            )

        class Item(base):  # type: ignore[misc]
            __table__ = item
            __mapper_args__ = (
                {"polymorphic_on": item.c.kind, "polymorphic_identity": "item"}
                if inherits != "none"
                else {}
            )
            note = orm.deferred(item.c.note, group="notes")
            node = relationship("Node", back_populates="items")
            labels = relationship(
                "Label", secondary=link, order_by=(link.c.pos, label.c.id), back_populates="items"
            )

        class Profile(base):  # type: ignore[misc]
            __table__ = profile
            node = relationship("Node", back_populates="profile")

        class Label(base):  # type: ignore[misc]
            __table__ = label
            items = relationship(
                "Item", secondary=link, order_by=item.c.id, back_populates="labels"
            )

        self.Special: Any = Item
        if inherits == "single":

            class Special(Item):
                __mapper_args__ = {"polymorphic_identity": "special"}  # noqa: RUF012

            self.Special = Special
        elif inherits == "joined":

            class Special2(Item):
                __table__ = special
                __mapper_args__ = {"polymorphic_identity": "special"}  # noqa: RUF012
                extra = orm.deferred(special.c.more) if rng.random() < 0.5 else special.c.more

            self.Special = Special2
        self.Node, self.Item, self.Profile, self.Label = Node, Item, Profile, Label
        self.tables = {"friend": friend, "link": link}

    def node_key(self, number: int) -> dict[str, Any]:
        if self.key == "pair":
            return {"id": number // 3, "part": number % 3}
        return {
            "id": {
                "int": number,
                "uuid": uuid.UUID(int=number),
                "text": f"key {chr(97 + number)}",
            }.get(self.key, number)
        }

    def fill(self, seed: int) -> None:
        """Put the same rows into the tables for the same seed."""
        rng, session = random.Random(seed), self.db.session
        for table in reversed(self.base.metadata.sorted_tables):
            if table.name == "node":
                session.execute(
                    table.update().values({c: None for c in ("up_id", "up_part") if c in table.c})
                )
            session.execute(table.delete())
        keys = [self.node_key(number) for number in range(rng.randint(2, 12))]

        def reference(prefix: str) -> dict[str, Any]:
            chosen = rng.choice([*keys, None])
            if chosen is None:
                return {}
            return {f"{prefix}_{name}": value for name, value in chosen.items()}

        for number, key in enumerate(keys):
            up = (
                {f"up_{name}": value for name, value in rng.choice(keys[:number]).items()}
                if number and rng.random() < 0.7
                else {}
            )
            session.add(
                self.Node(**key, name=f"n{rng.randint(0, 9)}{number}", bio=f"bio {number}", **up)
            )
            session.flush()
        for number in range(rng.randint(0, 25)):
            cls = self.Special if rng.random() < 0.4 else self.Item
            kwargs: dict[str, Any] = {"extra": f"x{number}"} if cls is not self.Item else {}
            session.add(
                cls(
                    id=number + 1,
                    name=f"n{rng.randint(0, 9)}",
                    active=rng.randint(0, 1),
                    rank=rng.randint(0, 3),
                    note=f"note {number}",
                    **reference("node"),
                    **kwargs,
                )
            )
        holders = rng.sample(keys, rng.randint(0, len(keys)))
        for number, key in enumerate(holders):
            session.add(
                self.Profile(
                    id=number + 1,
                    name=f"p{number}",
                    **{f"node_{name}": value for name, value in key.items()},
                )
            )
        for number in range(rng.randint(0, 5)):
            session.add(self.Label(id=number + 1, name=f"l{number}"))
        session.flush()
        items = list(session.scalars(sa.select(self.Item.id).order_by(self.Item.id)))
        labels = list(session.scalars(sa.select(self.Label.id).order_by(self.Label.id)))
        pairs = {(i, one) for i in items for one in labels if rng.random() < 0.3}
        for number, (i, one) in enumerate(sorted(pairs)):
            session.execute(
                self.tables["link"]
                .insert()
                .values(item_id=i, label_id=one, pos=rng.randint(0, 3) * 100 + number)
            )
        for number in range(rng.randint(0, 8)):
            session.execute(
                self.tables["friend"]
                .insert()
                .values(n=number + 1, **reference("one"), **reference("two"))
            )
        session.commit()
        session.remove()


class Walk:
    """One random walk; all it does follows from its seed."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.rng = world, random.Random(seed)
        self.pool: list[Any] = []
        # Nothing is garbage: a walk without peers holds other objects than one with them.
        self.kept: list[Any] = []
        self.seen: list[Any] = []
        # For each step: the options that the touched object carries.
        self.carried: list[Any] = []
        self.loads = PeerLoads()

    def options(self) -> list[Any]:
        w, load = self.world, orm
        choices: list[Callable[[], Any]] = [
            lambda: load.defaultload(w.Node.items).joinedload(w.Item.labels),
            lambda: load.defaultload(w.Node.items).selectinload(w.Item.labels),
            lambda: load.defaultload(w.Node.items).load_only(w.Item.name),
            lambda: load.with_loader_criteria(w.Item, w.Item.active == 1),
            lambda: load.with_loader_criteria(w.Node, w.Node.name >= "n3"),
            lambda: load.lazyload(w.Node.items.and_(w.Item.rank > 0)),
            lambda: load.joinedload(w.Node.profile),
            lambda: load.selectinload(w.Node.downs),
            lambda: load.undefer(w.Node.bio),
            lambda: load.load_only(w.Node.name),
            lambda: load.defer(w.Node.name),
        ]
        return [choice() for choice in self.rng.sample(choices, self.rng.choice((0, 0, 1, 2)))]

    def query(self, *, plain: bool = False) -> None:
        w, rng = self.world, self.rng
        cls = rng.choice((w.Node, w.Node, w.Item, w.Special, w.Profile, w.Label))
        statement = sa.select(cls)
        if cls is w.Node and not plain:
            statement = statement.options(*self.options())
        order = [cls.id, cls.part] if cls is w.Node and w.key == "pair" else [cls.id]
        statement = statement.order_by(*(c.desc() if rng.random() < 0.3 else c for c in order))
        if rng.random() < 0.3:
            statement = statement.limit(rng.randint(1, 8))
        if rng.random() < 0.1 and not plain:
            statement = statement.execution_options(populate_existing=True)
        streamed = rng.random() < 0.15

        def run() -> Any:
            if streamed:
                result = w.db.session.scalars(statement.execution_options(yield_per=3))
            else:
                result = w.db.session.scalars(statement)
            found = list(result.unique())
            self.pool.extend(found)
            return [name_of(each) for each in found]

        self.record("query", run)

    def touch(self) -> None:
        if not self.pool:
            return
        one = self.rng.choice(self.pool)
        mapper = sa.inspect(type(one))
        key = self.rng.choice(
            [*(a.key for a in mapper.relationships), *(a.key for a in mapper.column_attrs)]
        )
        session = self.world.db.session

        def is_there(each: Any) -> bool:
            # What is known of a deleted object depends on when it was read last.
            return not (sa.inspect(each).deleted or each in session.deleted)

        pool = [each for each in self.pool if type(each) is type(one) and is_there(each)]
        others = pool if self.rng.random() < 0.5 else [one] if is_there(one) else []
        for each in others[:10]:
            carried = options_of(each)
            self.record(f"{type(each).__name__}.{key}", partial(self.value, each, key), carried)

    def value(self, one: Any, key: str) -> Any:
        found = getattr(one, key)
        if isinstance(found, list):
            self.pool.extend(found[:2])
            return [name_of(each) for each in found]
        if found is not None and hasattr(found, "__mapper__"):
            self.pool.append(found)
            return name_of(found)
        return found

    def change(self, kinds: tuple[str, ...]) -> None:
        w, rng, session = self.world, self.rng, self.world.db.session
        kind = rng.choice(kinds)
        nodes = [each for each in self.pool if isinstance(each, w.Node) and each in session]
        items = [each for each in self.pool if isinstance(each, w.Item) and each in session]

        def run() -> Any:
            if kind == "name" and nodes:
                rng.choice(nodes).name = f"n{rng.randint(0, 9)}c"
            elif kind == "bio" and nodes:
                rng.choice(nodes).bio = "changed"
            elif kind == "reference" and items and nodes:
                chosen = rng.choice([*nodes, None])
                item = rng.choice(items)
                for name in w.node_key(0):
                    setattr(item, f"node_{name}", None if chosen is None else getattr(chosen, name))
            elif kind == "assign" and items and nodes:
                rng.choice(items).node = rng.choice([*nodes, None])
            elif kind == "append" and items and nodes:
                rng.choice(nodes).items.append(rng.choice(items))
            elif kind == "new" and nodes:
                new = w.Item(id=rng.randint(1000, 10**6), name="n5", active=1, rank=1)
                session.add(new)
                new.node = rng.choice(nodes)
                self.pool.append(new)
            elif kind == "delete" and items:
                session.delete(rng.choice(items))
            elif kind == "expunge" and items:
                session.expunge(rng.choice(items))
            elif kind == "expire" and nodes:
                session.expire(rng.choice(nodes))
            return None

        self.record(f"change {kind}", run)

    def record(self, what: str, run: Callable[[], Any], carried: object = None) -> None:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                value = run()
            except Exception as error:  # what it is is compared
                told = str(error).split("\n")[0].split(" at 0x")[0]
                # The order of a circle is that of a set.
                circular = "Circular dependency" in told
                value = (type(error).__name__, "" if circular else told)
                if isinstance(error, (sa.exc.DBAPIError, sa.exc.PendingRollbackError)):
                    self.world.db.session.rollback()
        self.carried.append(carried)
        self.seen.append(
            (what, value, sorted(str(each.message).split(" at 0x")[0] for each in warned))
        )

    def go(self, mode: str) -> None:
        session = self.world.db.session
        with self.world.app.app_context(), lazy_loading(mode) as self.loads:
            for _ in range(self.rng.randint(1, 3)):
                for _ in range(self.rng.randint(1, 3)):
                    self.query()
                # A load that a batch has made needless flushes nothing: so flushing is off from the
                # first change on, or not at all.
                session.autoflush = self.rng.random() >= 0.2
                kinds = self.rng.choice(CHANGES)
                for _ in range(self.rng.choice((0, 0, 1, 3))):
                    self.change(kinds)
                # A batch that is not needed flushes nothing, as an attribute that is loaded.
                if self.rng.random() < 0.3 or "reference" not in kinds:
                    self.record("flush", lambda: session.flush())
                for _ in range(self.rng.randint(3, 12)):
                    self.touch()
                    if self.rng.random() < 0.1:
                        self.query(plain=True)
                    if self.rng.random() < 0.05:
                        self.kept.extend(self.pool[: len(self.pool) // 2])
                        del self.pool[: len(self.pool) // 2]
                session.autoflush = True
                end = self.rng.choice(("commit", "rollback", "expire_all"))
                if end == "expire_all":
                    self.record("flush", lambda: session.flush())
                self.record(end, getattr(session, end))
            session.rollback()
            for table in self.world.base.metadata.sorted_tables:
                self.seen.append(sorted(map(str, session.execute(sa.select(table)))))


def name_of(one: Any) -> Any:
    """Name an object so that both walks call it the same."""
    identity = sa.inspect(one).identity
    return (
        type(one).__name__,
        identity if identity is not None else ("new", one.__dict__.get("id")),
    )


def options_of(one: Any) -> frozenset[Any]:
    """Return the options that an object got from the load that brought it."""
    keys = (option._generate_cache_key() for option in sa.inspect(one).load_options)
    return frozenset(key.key if key is not None else None for key in keys)


def compare(world: World, seed: int) -> PeerLoads:
    """Do one walk in both ways, and return what peer loading did.

    Where an object carries other options in the one than in the other, the comparison ends, and
    ``loads.plain["other options"]`` is 1.

    Raises:
        AssertionError: They differ; the seed is in its text.
    """
    walks = []
    for mode in ("select", "peers"):
        with world.app.app_context():
            world.fill(seed)
        walk = Walk(world, seed)
        walk.go(mode)
        walks.append(walk)
    plain, peers = walks
    for at, (one, other) in enumerate(zip(plain.seen, peers.seen, strict=True)):
        if at < len(plain.carried) and plain.carried[at] != peers.carried[at] and one != other:
            peers.loads.plain[OTHER_OPTIONS] = 1
            break
        assert one == other, (
            f"walk {seed} ({world.key}, {world.inherits}), step {at}: {one} != {other}"
        )
    return peers.loads


def make_world(seed: int, url: str) -> World:
    """Make models of a random form, and their tables."""
    world = World(random.Random(seed), url)
    with world.app.app_context():
        world.db.drop_all()
        world.db.create_all()
    return world


def close(world: World) -> None:
    """Drop the tables, and leave nothing open."""
    with world.app.app_context():
        world.db.session.remove()
        world.db.drop_all()
        for engine in world.db.engines.values():
            engine.dispose()


def main() -> None:
    """Walk as often as asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--walks", type=int, default=2000)
    parser.add_argument("--per-world", type=int, default=10, help="walks over models of one form")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--url", default="sqlite://")
    chosen = parser.parse_args()
    begin, batches, plain = time.monotonic(), 0, Counter[str]()
    for first in range(chosen.seed, chosen.seed + chosen.walks, chosen.per_world):
        world = make_world(first, chosen.url)
        try:
            for seed in range(first, first + chosen.per_world):
                loads = compare(world, seed)
                batches, plain = batches + loads.batches, plain + loads.plain
        finally:
            close(world)
    took_s = time.monotonic() - begin
    assert plain[OTHER_OPTIONS] <= max(1, chosen.walks / 200), f"{plain[OTHER_OPTIONS]} walks"
    print(f"{chosen.walks} walks were equal: {batches} batches, {dict(plain)}, {took_s:.0f} s")


if __name__ == "__main__":
    main()
