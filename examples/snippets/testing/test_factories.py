"""Objects made by factory-boy, in the session of a test."""

# start factories
import factory
from shop import Customer
from shop import db as database


class CustomerFactory(factory.alchemy.SQLAlchemyModelFactory):
    class Meta:
        model = Customer
        sqlalchemy_session_factory = lambda: database.session  # noqa: E731
        sqlalchemy_session_persistence = "commit"

    email = factory.Sequence(lambda n: f"{n}@example.org")


def test_many_customers_are_counted(client, db):
    CustomerFactory.create_batch(3)
    assert client.get("/customers").json == {"customers": 3}


# end factories
