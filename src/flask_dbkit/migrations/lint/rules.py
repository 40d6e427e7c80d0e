"""The rules of ``flask dbkit migrate lint``: what each looks for, why, and what to do instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["BY_ID", "RULES", "Level", "Rule"]

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        id: ``DM`` and three digits: 0 the file, 1 code that runs meanwhile, 2 locks, 3 data,
            4 SQLite, 5 MariaDB and MySQL. Never used for anything else again.
        title: What is found, as a short phrase.
        why: What happens otherwise.
        fix: What to do instead.
        level: ``error``, or ``warning`` when it depends on the size of tables and the like.
        dialects: The databases it is about; empty for all.
        squawk: The rules of squawk that say the same.
    """

    id: str
    title: str
    why: str
    fix: str
    level: Level = "error"
    dialects: tuple[str, ...] = ()
    squawk: tuple[str, ...] = ()


_PG = ("postgresql",)
_SQLITE = ("sqlite",)
_MYSQL = ("mysql", "mariadb")

RULES = (
    Rule(
        "DM001",
        "no way back",
        "A deployment that goes wrong cannot be taken back with downgrade().",
        "Write downgrade(), or let it raise NotImplementedError with the reason.",
    ),
    Rule(
        "DM002",
        "empty revision",
        "upgrade() does nothing: was something forgotten, or the model not imported?",
        "Fill it, or delete the file.",
    ),
    Rule(
        "DM003",
        "imports the application's models",
        "Models change; the revision has to do the same for ever.",
        "Describe the tables it needs in the revision, with sa.table() and sa.column().",
    ),
    Rule(
        "DM004",
        "several heads",
        "Two revisions follow the same one, so that 'upgrade' does not know which is meant.",
        'Join them: flask dbkit migrate new --merge -m "...".',
    ),
    Rule(
        "DM005",
        "edited after it was applied",
        "Databases where it was applied before keep the old form; nothing tells them apart.",
        "Undo the edit, and write another revision.",
    ),
    Rule(
        "DM006",
        "SQL put together from text",
        "A quote or a percent sign in a value breaks it, or does worse.",
        "Use sa.text() with bound parameters, or SQLAlchemy's constructs.",
    ),
    Rule(
        "DM007",
        "a database is missing",
        "The file has functions for several databases, but not for this one, or not both ways.",
        "Add upgrade_<bind>() and downgrade_<bind>(), with pass where nothing is to be done.",
    ),
    Rule(
        "DM008",
        "not read to its end",
        "What could not be read or run was not looked at: nothing is known about it.",
        "Make it run without a database: nothing that it asks one is answered here. Or look"
        " yourself, and say so with '# dbkit: ignore DM008 reason'.",
    ),
    Rule(
        "DM101",
        "drops what the code still maps",
        "Every query of the model fails from the moment this is applied.",
        "Take it out of the model, deploy, and drop it with the next deployment.",
    ),
    Rule(
        "DM102",
        "NOT NULL column without a server default",
        "It fails on a table with rows, and code that runs meanwhile cannot insert any.",
        "Give it a server_default, in the model too, or add it nullable, fill it, and make it NOT"
        " NULL later.",
        squawk=("adding-required-field", "adding-not-nullable-field"),
    ),
    Rule(
        "DM103",
        "narrower type",
        "Values that are there may not fit: it fails, or cuts them.",
        "Add a column of the new type, copy what fits, and drop the old one later.",
    ),
    Rule(
        "DM104",
        "removes a value of an enumeration",
        "Rows that have it cannot be read or written any more.",
        "Change the rows first, and keep the value until no code knows it.",
    ),
    Rule(
        "DM105",
        "renames what code uses",
        "Between this and the restart of the last process, one of both fails.",
        "Add the new name, write to both, copy, deploy, and drop the old one later.",
        squawk=("renaming-column", "renaming-table"),
    ),
    Rule(
        "DM201",
        "index built with a lock",
        "Nobody can write to the table until the index is there.",
        "In 'with op.get_context().autocommit_block():' create it with"
        " postgresql_concurrently=True.",
        dialects=_PG,
        squawk=("require-concurrent-index-creation",),
    ),
    Rule(
        "DM202",
        "CONCURRENTLY inside a transaction",
        "PostgreSQL refuses it.",
        "Put it into 'with op.get_context().autocommit_block():'.",
        dialects=_PG,
        squawk=("ban-concurrent-index-creation-in-transaction",),
    ),
    Rule(
        "DM203",
        "foreign key checked at once",
        "Both tables are locked against writing until every row is checked.",
        "Create it with postgresql_not_valid=True, and VALIDATE CONSTRAINT in the next revision.",
        dialects=_PG,
        squawk=("adding-foreign-key-constraint", "constraint-missing-not-valid"),
    ),
    Rule(
        "DM204",
        "check constraint checked at once",
        "The table is locked until every row is checked.",
        "Create it with postgresql_not_valid=True, and VALIDATE CONSTRAINT in the next revision.",
        dialects=_PG,
        squawk=("constraint-missing-not-valid",),
    ),
    Rule(
        "DM205",
        "unique constraint that builds its index",
        "The table is locked until the index is there.",
        "Create a unique index concurrently, then ADD CONSTRAINT ... UNIQUE USING INDEX.",
        dialects=_PG,
        squawk=("disallowed-unique-constraint",),
    ),
    Rule(
        "DM206",
        "SET NOT NULL that reads the table",
        "The table is locked until every row is checked.",
        "Add CHECK (column IS NOT NULL) NOT VALID, validate it, then SET NOT NULL.",
        dialects=_PG,
        squawk=("adding-not-nullable-field",),
    ),
    Rule(
        "DM207",
        "rewrites the table",
        "A volatile default, a changed type or a stored generated column copies every row under"
        " a lock that stops readers too.",
        "Add a plain column, fill it in batches, and set the default for new rows.",
        dialects=_PG,
        squawk=(
            "changing-column-type",
            "adding-field-with-default",
            "adding-serial-primary-key-field",
        ),
    ),
    Rule(
        "DM208",
        "several tables locked at once",
        "The lock on the first is held while the second is waited for.",
        "One table per revision.",
        "warning",
        dialects=_PG,
    ),
    Rule(
        "DM301",
        "changes all rows in one statement",
        "It locks them until it is done, and its transaction grows with the table.",
        "Loop over ranges of the key, or WHERE id IN (SELECT ... LIMIT 1000).",
    ),
    Rule(
        "DM302",
        "rows and schema in one revision",
        "The lock of the schema change is held while the rows are changed; on MariaDB a failure"
        " leaves half of it.",
        "One revision for the schema, and one for the rows.",
    ),
    Rule(
        "DM303",
        "inserts a secret",
        "It is in the repository, and in every database, for ever.",
        "Let the application read it from its configuration.",
    ),
    Rule(
        "DM401",
        "copies a table whose rows others follow",
        "With foreign keys on, dropping the old table deletes or clears the rows that refer to"
        " it. 'flask dbkit migrate upgrade' switches them off; an env.py of another kind does not.",
        "Apply it with 'flask dbkit migrate upgrade' or an adopted env.py only.",
        "warning",
        dialects=_SQLITE,
    ),
    Rule(
        "DM402",
        "constraint without a name in batch mode",
        "SQLite copies the table, and Alembic cannot find or make what has no name.",
        "Name it, or give the metadata a naming_convention.",
        dialects=_SQLITE,
    ),
    Rule(
        "DM403",
        "an index may be lost",
        "Alembic's copy of a table has no indexes on expressions, and may lose the WHERE of a"
        " partial one. 'flask dbkit migrate upgrade' puts them back, other ways do not.",
        "Apply it with 'flask dbkit migrate upgrade' or an adopted env.py only.",
        dialects=_SQLITE,
    ),
    Rule(
        "DM404",
        "default that SQLite cannot add",
        "ADD COLUMN takes constants only, neither CURRENT_TIMESTAMP nor a function.",
        "Use op.batch_alter_table(), or a constant.",
        dialects=_SQLITE,
    ),
    Rule(
        "DM405",
        "ALTER that SQLite does not have",
        "It raises NotImplementedError.",
        "Use op.batch_alter_table().",
        dialects=_SQLITE,
    ),
    Rule(
        "DM501",
        "copies the whole table",
        "The table cannot be written while ALGORITHM=COPY runs.",
        "Add a column of the new type, copy in batches, and drop the old one later.",
        dialects=_MYSQL,
    ),
    Rule(
        "DM502",
        "several statements without a way back",
        "Each commits by itself: when the second fails, the first stays.",
        "One statement per revision.",
        "warning",
        dialects=_MYSQL,
    ),
    Rule(
        "DM503",
        "index longer than 3072 bytes",
        "A character takes up to four bytes in utf8mb4: the index is refused.",
        "Shorten the column, or index a prefix with mysql_length.",
        dialects=_MYSQL,
    ),
)
"""Every rule, in the order of the reference page."""

BY_ID = {rule.id: rule for rule in RULES}
