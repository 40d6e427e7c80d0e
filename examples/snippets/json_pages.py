"""Snippets of the page "Return pages as JSON".

Backends: sqlite-file postgresql mariadb
"""

from datetime import date
from decimal import Decimal
from typing import Any

from flask import Flask, Response, jsonify
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from flask_dbkit import Base, DBKit, Filter, FilterAllowlist, Listing, SortAllowlist, transaction

db = SQLAlchemy(model_class=Base)
dbkit = DBKit(db=db)
app = Flask(__name__)
app.config["SECRET_KEY"] = "not a secret: this is a test"
dbkit.init_app(app)


# start model
class Product(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    price: Mapped[Decimal]
    since: Mapped[date]
    margin: Mapped[Decimal] = mapped_column(info={"dbkit": {"private": True}})


PRODUCTS = Listing(
    Product,
    sort=SortAllowlist({"name": Product.name, "price": Product.price}, default="name"),
    filter=FilterAllowlist({"name": Filter(Product.name, ops="eq icontains")}),
    per_page=2,
)
# end model


# start routes
@app.get("/products")
def products() -> Response:
    return PRODUCTS.paginate().to_response()


@app.get("/products/feed")
def feed() -> Response:
    return PRODUCTS.paginate_keyset().to_response()


# end routes


# start item
def dump(product: Product) -> dict[str, Any]:
    return {"name": product.name, "url": f"/products/{product.id}"}


@app.get("/products/short")
def short() -> Response:
    return PRODUCTS.paginate().to_response(dump)


# end item


# start openapi
@app.get("/openapi.json")
def openapi() -> Response:
    parameters = [one for one in PRODUCTS.openapi_parameters() if one["name"] != "cursor"]
    operation = {
        "summary": "Products, page by page",
        "parameters": parameters,
        "responses": {"200": {"description": "A page."}},
    }
    return jsonify(
        openapi="3.1.0",
        info={"title": "Shop", "version": "1.0.0"},
        paths={"/products": {"get": operation}},
    )


# end openapi


def check() -> None:
    with app.app_context():
        db.create_all()
        with transaction():
            for number, name in enumerate(["apples", "bread", "cheese", "dates", "eggs"], 1):
                price = Decimal(number) / 2
                db.session.add(
                    Product(
                        id=number, name=name, price=price, since=date(2026, 1, number), margin=price
                    )
                )
    client = app.test_client()

    # start offset
    answer = client.get("/products?page=2&sort=-price")
    assert answer.json == {
        "items": [
            {"id": 3, "name": "cheese", "price": "1.500000", "since": "2026-01-03"},
            {"id": 2, "name": "bread", "price": "1.000000", "since": "2026-01-02"},
        ],
        "pagination": {
            "kind": "offset",
            "page": 2,
            "per_page": 2,
            "pages": 3,
            "total": 5,
            "total_is_exact": True,
            "has_prev": True,
            "has_next": True,
        },
        "links": {
            "self": "/products?sort=-price&page=2",
            "first": "/products?sort=-price&page=1",
            "prev": "/products?sort=-price&page=1",
            "next": "/products?sort=-price&page=3",
            "last": "/products?sort=-price&page=3",
        },
    }
    assert answer.headers["X-Total-Count"] == "5"
    assert '</products?sort=-price&page=3>; rel="next"' in answer.headers["Link"]
    # end offset

    # start keyset
    names, address = [], "/products/feed?sort=-price"
    while address:
        answer = client.get(address)
        page = answer.json or {}
        names += [item["name"] for item in page["items"]]
        address = page["links"]["next"]
    assert names == ["eggs", "dates", "cheese", "bread", "apples"]
    assert page["pagination"]["kind"] == "keyset"
    assert page["pagination"]["next_cursor"] is None
    # end keyset
    assert set(page["pagination"]) == {
        *("kind", "per_page", "has_prev", "has_next", "next_cursor", "prev_cursor")
    }

    short = client.get("/products/short?name__icontains=egg").json or {}
    assert short["items"] == [{"name": "eggs", "url": "/products/5"}]

    # start refused
    answer = client.get("/products?sort=margin&page=0")
    assert answer.status_code == 400
    assert answer.mimetype == "application/problem+json"
    assert answer.json == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "2 parameters were not understood.",
        "code": "query.invalid",
        "errors": [
            {
                "parameter": "sort",
                "code": "query.unknown_sort",
                "value": "margin",
                "allowed": ["name", "price"],
            },
            {
                "parameter": "page",
                "code": "query.bad_page",
                "value": "0",
                "allowed": "a whole number from 1",
            },
        ],
        "request_id": answer.headers["X-Request-ID"],
    }
    # end refused

    described = client.get("/openapi.json").json or {}
    parameters = described["paths"]["/products"]["get"]["parameters"]
    assert [one["name"] for one in parameters] == [
        *("sort", "direction", "page", "per_page", "name", "name__icontains")
    ]
    with app.app_context():
        db.engine.dispose()


if __name__ == "__main__":
    check()
