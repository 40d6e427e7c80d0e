"""Snippets of the page "Page through a large table".

Backends: sqlite-file postgresql mariadb
"""

from datetime import UTC, datetime, timedelta

from flask import Flask, render_template_string
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Index, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from flask_dbkit import Base, DBKit, KeysetPage, Listing, SortAllowlist, paginate, transaction

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)
app = Flask(__name__)
app.config["SECRET_KEY"] = "not a secret: this is a test"
dbkit.init_app(app)


# start listing
class Event(Base):
    __table_args__ = (Index(None, "at", "id"), Index(None, "account_id", "at", "id"))

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    account_id: Mapped[int]
    text: Mapped[str] = mapped_column(String(200))


EVENTS = Listing(
    Event,
    sort=SortAllowlist({"at": Event.at}, default="-at"),
    per_page=50,
)
# end listing

PAGE = """
{# start template #}
{% from "flask_dbkit/pager.html" import render_pager %}

<ol>
  {% for event in page %}
  <li>{{ event.at.isoformat() }} {{ event.text }}</li>
  {% endfor %}
</ol>
{{ render_pager(page) }}
{# end template #}
"""

TABLE = """
{# start headers #}
{% from "flask_dbkit/pager.html" import render_pager, render_sort_header %}

<table>
  <thead>
    <tr>{{ render_sort_header(page, "at", "When") }}<th scope="col">What</th></tr>
  </thead>
  <tbody>
    {% for event in page %}
    <tr><td>{{ event.at.isoformat() }}</td><td>{{ event.text }}</td></tr>
    {% endfor %}
  </tbody>
</table>
{{ render_pager(page, sizes=(20, 50, 100)) }}
{# end headers #}
"""


@app.get("/events/table")
def table() -> str:
    return render_template_string(TABLE, page=EVENTS.paginate())


# start routes
@app.get("/events")
def events() -> str:
    """Show a page by its number: /events?page=2."""
    return render_template_string(PAGE, page=EVENTS.paginate())


@app.get("/feed")
def feed() -> str:
    """Show a page by its cursor: /feed?cursor=…."""
    return render_template_string(PAGE, page=EVENTS.paginate_keyset())


# end routes


# start own
@app.get("/accounts/<int:account_id>/feed")
def account_feed(account_id: int) -> str:
    statement = EVENTS.statement.where(Event.account_id == account_id)
    page = EVENTS.paginate_keyset(statement, bind=account_id)
    return render_template_string(PAGE, page=page)


# end own

# start count
ARCHIVE = Listing(
    Event,
    sort=SortAllowlist({"at": Event.at}, default="-at"),
    per_page=50,
    count=1000,  # count up to 1,000 rows, then say "more"
    max_offset=100_000,
    name="archive",
)
# end count

TOTAL = """
{# start total #}
{{ page.total }}{{ "" if page.total_is_exact else " or more" }} events
{# end total #}
"""


@app.get("/archive")
def archive() -> str:
    return render_template_string(TOTAL, page=ARCHIVE.paginate())


# start spot
@app.get("/events/recent")
def recent() -> str:
    since = datetime.now(UTC) - timedelta(days=1)
    page = paginate(select(Event).where(Event.at >= since).order_by(Event.at.desc()), per_page=10)
    return render_template_string(PAGE, page=page)


# end spot


# start outside
def first_page(session: Session, secret: str) -> KeysetPage[Event]:
    return EVENTS.paginate_keyset(session=session, args={"per_page": "10"}, secret=secret)


# end outside


def check() -> None:
    now = datetime.now(UTC)
    with app.app_context():
        db.create_all()
        with transaction():
            db.session.add_all(
                [
                    Event(
                        id=n,
                        at=now - timedelta(minutes=n // 3),
                        account_id=n % 2,
                        text=f"event {n}.",
                    )
                    for n in range(1, 1205)
                ]
            )
    client = app.test_client()

    by_number = client.get("/events?page=2").text
    assert "event 51." in by_number or "event 50." in by_number
    assert 'aria-current="page">2</a>' in by_number
    assert 'href="/events?page=25"' in by_number

    # All pages joined hold every row once.
    seen: list[str] = []
    address = "/feed"
    while True:
        text = client.get(address).text
        seen += [line.split("event ")[1] for line in text.splitlines() if "event " in line]
        if 'rel="next"' not in text:
            break
        address = text.split('rel="next"')[0].rsplit('href="', 1)[1].split('"')[0]
    assert len(seen) == len(set(seen)) == 1204

    own = client.get("/accounts/1/feed").text
    cursor = own.split('rel="next"')[0].rsplit("cursor=", 1)[1].split('"')[0]
    assert client.get(f"/accounts/1/feed?cursor={cursor}").status_code == 200
    refused = client.get(f"/accounts/0/feed?cursor={cursor}")
    assert refused.status_code == 400
    assert refused.json
    assert refused.json["errors"][0]["code"] == "query.cursor_mismatch"

    assert "1000 or more events" in client.get("/archive").text
    deep = client.get("/archive?page=9999")
    assert deep.json
    assert deep.json["errors"][0]["code"] == "query.page_too_deep"
    assert "event " in client.get("/events/recent?page=3").text

    with app.app_context():
        engine = db.engine
        with Session(engine) as session:
            assert len(first_page(session, "a secret").items) == 10
        engine.dispose()


if __name__ == "__main__":
    check()
